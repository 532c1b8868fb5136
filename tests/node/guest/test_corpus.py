"""Scripts of the corpus are killed with SIGKILL at a random step, resumed, and must end bit-identical.

One kill for each of QUICK, for each of all with SHOAL_LONG=1. The full run (several kills in a row, the hook on an
untouched run, other thread counts) is `make corpus`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.node.guest.corpus_job import JobFailed, Outcome, Warm
from tests.node.guest.corpus_oracle import FRESH, Pair, compare, compare_lines, differences, killed, reference
from tests.node.guest.corpus_scripts import FOLDER, PLAIN, QUICK, SCRIPTS, Script

AT_ONCE: Final = 2
"""Scripts that run at the same time, each in one process of one thread."""
SEED: Final = "one kill"
COLD: Final = {"for_range", "worker_loader"}
"""Scripts whose own process loads torch after the hook, as all do in `make corpus`: five seconds each. The others are
forks of processes that have loaded it."""
ASKED: Final = [script for script in SCRIPTS if script.name in QUICK or os.environ.get("SHOAL_LONG")]
ORACLE_TEST: Final = "test_a_killed_script_ends_as_if_nothing_had_happened"

Pending = dict[str, Future[None]]


class Oracle:
    """Runs the programme of the quick test; each of its threads has two warm processes."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[Warm] = []

    def warm(self, script: Script) -> Pair:
        """The warm processes of this thread, for scripts with torch in the runtime that nodes offer. Two, since what
        resumes must find other addresses than what was killed."""
        if script.venv != PLAIN or "torch" not in script.needs:
            return FRESH
        if not hasattr(self._own, "warm"):
            self._own.warm = Warm(script.python), Warm(script.python)
            self._all += self._own.warm
        found: tuple[Warm, Warm] = self._own.warm
        return found

    def run(self, script: Script, folder: Path) -> None:
        """Run it plainly; then killed and resumed. JobFailed when that differs."""
        warm = self.warm(script)
        expected = reference(script, folder / "reference", warm[0])
        seed = f"{SEED} {script.name}"
        killed(script, folder / "killed", expected, seed, warm=FRESH if script.name in COLD else warm)

    def close(self) -> None:
        """End the warm processes."""
        for warm in self._all:
            warm.close()


@pytest.fixture(scope="module")
def pending(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pending]:
    """All scripts that were asked for, started together, a few at a time."""
    asked = {name for item in request.session.items if (name := script_of(item))}
    oracle = Oracle()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            script.name: pool.submit(oracle.run, script, tmp_path_factory.mktemp(script.name))
            for script in SCRIPTS
            if script.name in asked and not script.why_not()
        }
        pool.shutdown(cancel_futures=True)
    oracle.close()


def script_of(item: pytest.Item) -> str:
    """The name of the script that a test is about; empty for any other test."""
    is_oracle = isinstance(item, pytest.Function) and item.originalname == ORACLE_TEST
    return item.name.removeprefix(f"{ORACLE_TEST}[").removesuffix("]") if is_oracle else ""


@pytest.mark.parametrize("script", ASKED, ids=lambda script: script.name)
def test_a_killed_script_ends_as_if_nothing_had_happened(
    script: Script, pending: Pending, request: pytest.FixtureRequest
) -> None:
    if why := script.why_not():
        pytest.skip(why)
    if script.fails:
        request.applymarker(pytest.mark.xfail(reason=script.fails, raises=JobFailed, strict=True))
    pending[script.name].result()


def test_every_script_is_listed_once() -> None:
    found = {path.stem for path in FOLDER.glob("*.py")} - {"ending"} | {
        path.parent.name for path in FOLDER.glob("*/main.py")
    }
    assert sorted(script.name for script in SCRIPTS) == sorted(found)
    assert found >= QUICK
    assert len(QUICK) >= 28


def test_the_oracle_sees_one_other_byte_and_one_lost_line(tmp_path: Path) -> None:
    good = Outcome({"a": "1"}, b"one\ntwo\n")
    compare(good, good)
    with pytest.raises(JobFailed, match="other bytes in a"):
        compare(Outcome({"a": "2"}, good.stdout), good)
    with pytest.raises(JobFailed, match="other bytes in b"):
        compare(Outcome({"a": "1", "b": "1"}, good.stdout), good)
    with pytest.raises(JobFailed, match="b'three' instead of b'two'"):
        compare(Outcome(good.files, b"one\nthree\n"), good)


@pytest.mark.parametrize(
    ("printed", "complaint"),
    [
        ([b"1\n2\n", b"2\n3\n4\n"], ""),
        ([b"1\n", b"2\n", b"3\n4\n"], ""),
        ([b"1\n2\n3\n", b"2\n3\n4\n", b""], ""),
        ([b"", b"1\n2\n3\n4\n"], ""),
        ([b"1\n", b"3\n4\n"], "nobody printed"),
        ([b"1\n", b"2\n3\n"], "printed other lines"),
        ([b"1\n", b"2\n5\n4\n"], "printed other lines"),
        ([b"2\n", b"1\n2\n3\n4\n"], "process 0 printed other lines"),
    ],
)
def test_what_the_processes_print_leaves_no_gap(printed: list[bytes], complaint: str) -> None:
    if not complaint:
        compare_lines(printed, b"1\n2\n3\n4\n")
        return
    with pytest.raises(JobFailed, match=complaint):
        compare_lines(printed, b"1\n2\n3\n4\n")


def test_figures_are_compared_where_they_stand(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text('{"loss": [1.0, 2.0], "name": "x"}')
    second.write_text('{"loss": [1.0, 2.2], "name": "x"}')
    assert max(differences(first, second)) == pytest.approx(0.2 / 2.2)
    second.write_text('{"loss": [1.0]}')
    with pytest.raises(JobFailed, match="2 figures instead of 1"):
        list(differences(first, second))
