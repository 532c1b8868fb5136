"""One row of each kind runs with all tests; the others are marked `attack` and run when asked for (`make attacks`)."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = "attack: one more attack on a live node; deselected unless asked for with -m attack"


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line("markers", MARK)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the others out."""
    if "attack" in config.option.markexpr:
        return
    more = [item for item in items if HERE in item.path.parents and item.get_closest_marker("attack")]
    if more:
        config.hook.pytest_deselected(items=more)
        items[:] = [item for item in items if item not in more]
