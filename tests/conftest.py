"""What all tests share: repeatable property tests, and a guard against container tests that quietly never run."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")

container_outcomes: Counter[str] = Counter()


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
