"""What all tests share: repeatable property tests, what runs only on request, a guard against skipped containers, and
how they are spread over processes where -n asks for it."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import workers

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Many small products spin in as many threads as there are cores.

gc.disable()  # Until all tests are collected: nothing of that is garbage, and looking for it took a fifth of the time.

EXAMPLES = 100 if os.environ.get("SHOAL_LONG") else 60
"""Of a property that says nothing else. Every run tries the same ones, so that more of them find no more."""

settings.register_profile("house", max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
settings.load_profile("house")

container_outcomes: Counter[str] = Counter()

ASKED_FOR = {
    "netlab": "minutes in the NAT laboratory (`make netlab`); deselected unless asked for with -m netlab",
    "attack": "one more attack on a live node (`make attacks`); deselected unless asked for with -m attack",
    "soak": "the same failure once more, or for long (`make soak`); deselected unless asked for with -m soak",
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
    if is_worker(config):
        items.sort(key=lambda item: workers.turn(item.nodeid))


def pytest_collection_finish() -> None:
    """Eight thousand tests live until the end: the collector need not look at them every other second."""
    gc.collect()
    gc.freeze()
    gc.enable()


def is_worker(config: pytest.Config) -> bool:
    """Whether another process of ours hands out the tests, and counts what becomes of them."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True)
def place_among_workers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test marked `alone` measures time, so the other workers wait for it."""
    if not is_worker(request.config):
        yield
        return
    with workers.place(tmp_path_factory.getbasetemp().parent, request.node.get_closest_marker("alone") is not None):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means here."""
    return workers.count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Whole pieces of work to each worker, in the order in which they were collected; none where --dist says how."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # Only here: a run without -n needs no xdist.

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = workers.piece
    return scheduler


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what became of the tests that are marked `container`."""
    if "container" in report.keywords and (report.when == "call" or report.outcome == "skipped"):
        container_outcomes[report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where an engine runs (SHOAL_CONTAINER_TESTS=required), skipping every container test is a failure."""
    if os.environ.get("SHOAL_CONTAINER_TESTS") != "required" or session.config.option.collectonly:
        return
    if is_worker(session.config):
        return
    if container_outcomes and set(container_outcomes) == {"skipped"}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it next to the skips."""
    if container_outcomes:
        parts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(container_outcomes.items()))
        terminalreporter.write_line(f"container tests: {parts}")
