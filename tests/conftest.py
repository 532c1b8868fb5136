"""What all tests share: repeatable property tests, what runs only on request, a guard against skipped containers."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

container_outcomes: Counter[str] = Counter()

ASKED_FOR = {
    "netlab": "minutes in the NAT laboratory (`make netlab`); deselected unless asked for with -m netlab",
    "attack": "one more attack on a live node (`make attacks`); deselected unless asked for with -m attack",
}


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of what runs only when asked for."""
    for name, meaning in ASKED_FOR.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    others = [name for name in ASKED_FOR if name not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in others)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what became of the tests that are marked `container`."""
    if "container" in report.keywords and (report.when == "call" or report.outcome == "skipped"):
        container_outcomes[report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where an engine runs (SHOAL_CONTAINER_TESTS=required), skipping every container test is a failure."""
    if os.environ.get("SHOAL_CONTAINER_TESTS") != "required" or session.config.option.collectonly:
        return
    if container_outcomes and set(container_outcomes) == {"skipped"}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it next to the skips."""
    if container_outcomes:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(container_outcomes.items()))
        terminalreporter.write_line(f"container tests: {parts}")
