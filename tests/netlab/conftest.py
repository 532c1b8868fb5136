"""The laboratory as a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.netlab import ground
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.village import Village


@pytest.fixture
def lab() -> Iterator[Laboratory]:
    """An internet without houses; skipped with the reason where there can be none."""
    if why := ground.missing():
        pytest.skip(why)
    with Laboratory() as made:
        yield made


@pytest.fixture
def make_village(lab: Laboratory, tmp_path: Path) -> Iterator[Callable[[], Village]]:
    """A network of real nodes in the laboratory, which is ended with the test."""
    made: list[Village] = []

    def make() -> Village:
        made.append(Village(lab, tmp_path / "net", lambda text: None))
        return made[-1]

    yield make
    stubborn = [pid for one in made for pid in one.down()]
    assert not stubborn, f"{stubborn} did not end when they were asked to"
