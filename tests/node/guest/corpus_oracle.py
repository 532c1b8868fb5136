"""The bit-identity oracle: a script that was killed and resumed must leave what it leaves when nobody touches it.

`reference` runs it plainly, `watched` with the hook and one snapshot under way, `killed` kills and resumes it in fresh
processes and fresh folders, `on_other_threads` resumes one snapshot under another number of threads.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.node.guest.corpus_job import Job, JobFailed, Outcome, Warm
from tests.node.guest.corpus_scripts import Script

PLACE: Final = "task"
"""Folder of every process of a row: a sandbox shows each the same names, and scripts keep names in variables."""
EARLY, LATE = 0.05, 0.85
"""Kills are drawn from this part of all steps: later than that a fast script may end before the order reaches it."""
AFTERWARDS: Final = 0.05
"""Share of all steps that a script goes on after its snapshot, at most, before it is killed: this work is lost."""
TRIES: Final = 4
"""A script that ended before the order reached it is started again with half the steps, this often."""
LOSS_TOLERANCE: Final = 0.02
"""Relative difference of the figures that a script notes of itself (losses, scores) under another number of threads."""
SMALL: Final = 1e-3
"""Figures below this are compared to it, not to each other: the noise of a sum in another order is not relative."""

Pair = tuple[Warm | None, Warm | None]
FRESH: Final[Pair] = (None, None)
"""Every process is a new one."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill that was survived. Bytes of the snapshot, µs that the script stood still for it.

    `lacks`: what the hook itself said that its snapshot does not hold.
    """

    step: int
    size: int
    stall_us: int
    lacks: str


def reference(script: Script, folder: Path, warm: Warm | None = None) -> Outcome:
    """Without the hook, from start to end; as a fork of a warm process where there is one."""
    with Job(script, folder, is_hooked=False) as job:
        job.start(warm)
        return job.finish()


def watched(script: Script, folder: Path, expected: Outcome) -> int:
    """With the hook and one snapshot, from start to end: how many steps it counted. JobFailed when it differs."""
    with Job(script, folder) as job:
        job.start()
        job.wait(lambda: job.board.get("steps") >= script.steps // 2)
        job.cut()
        compare(job.finish(), expected)
        return job.board.get("steps")


def killed(
    script: Script, folder: Path, expected: Outcome, seed: str, kills: int = 1, warm: Pair = FRESH
) -> list[Kill]:
    """Kill it `kills` times in a row, each time resumed from its newest snapshot. JobFailed when the end differs.

    `warm`: who is forked for the processes that are killed, and who for the last, which resumes."""
    dice = random.Random(seed)
    marks = sorted(dice.uniform(EARLY, LATE) for _ in range(kills))
    survived: list[Kill] = []
    printed: list[bytes] = []
    snapshot: Path | None = None
    for number, mark in enumerate(marks):
        for attempt in range(TRIES):
            aside = folder / f"{number}.{attempt}"
            found = kill_at(script, aside, snapshot, int(script.steps * mark) >> attempt, dice, warm[0])
            if found:
                break
        else:
            raise JobFailed("it ended before a snapshot could be cut")
        snapshot, kill, stdout = found
        survived.append(kill)
        printed.append(stdout)
    assert snapshot
    with Job(script, folder / PLACE) as job:
        outcome = resumed(job, snapshot, is_parked=dice.random() < 0.5, warm=warm[1])
    try:
        compare(Outcome(outcome.files, expected.stdout), expected)
        compare_lines([*printed, outcome.stdout], expected.stdout)
    except JobFailed as error:
        said = next((f"; the hook had said: {kill.lacks}" for kill in survived if kill.lacks), "")
        raise JobFailed(f"{error}{said}") from None
    return survived


def kill_at(
    script: Script, aside: Path, snapshot: Path | None, steps: int, dice: random.Random, warm: Warm | None = None
) -> tuple[Path, Kill, bytes] | None:
    """Run (from a snapshot) until so many steps, cut, go on a little, SIGKILL. None when it ended before the cut.

    Everything is moved to `aside`, so that the next process finds an empty folder under the same name, as in a sandbox.
    """
    try:
        with Job(script, aside.parent / PLACE) as job:
            if snapshot:
                job.lay_out(snapshot)
            job.start(warm)
            job.wait(lambda: job.board.get("steps") >= steps)
            taken = job.cut()
            if taken is None:
                job.finish()
                return None
            board = job.board
            step = board.get("steps")
            later = step + dice.randint(0, int(script.steps * AFTERWARDS))
            lacks = "" if board.get("is_complete") else board.text or "it does not say what"
            kill = Kill(step, board.get("state_bytes"), board.get("stall_us"), lacks)
            job.wait(lambda: board.get("steps") >= later)
            job.kill()
            if snapshot and not board.get("restored_step"):
                raise JobFailed("it was not restored")
            return aside / taken.relative_to(job.folder), kill, job.stdout
    finally:
        (aside.parent / PLACE).rename(aside)


def resumed(job: Job, snapshot: Path, *, is_parked: bool = False, warm: Warm | None = None) -> Outcome:
    """Resume and run to the end; parked: run to the first loop head first and wait for the snapshot there."""
    if is_parked:
        job.board.set("is_parked", 1)
        job.start(warm)
        if not job.wait(lambda: job.board.state == "parked"):
            raise JobFailed(f"it ended instead of waiting; {job.last_words()}")
        job.lay_out(snapshot)
    else:
        job.lay_out(snapshot)
        job.start(warm)
    outcome = job.finish()
    if job.board.state == "disabled":
        raise JobFailed(f"disabled: {job.board.text}")
    if not job.board.get("restored_step"):
        raise JobFailed("it ran from the beginning instead of from the snapshot")
    return outcome


def on_other_threads(script: Script, folder: Path, expected: Path, seed: str, threads: int = 2) -> float:
    """Resume a snapshot under `threads` threads: the largest relative difference of the figures in final.json."""
    dice = random.Random(seed)
    found = kill_at(script, folder / "cut", None, int(script.steps * 0.4), dice)
    if not found:
        raise JobFailed("it ended before a snapshot could be cut")
    with Job(script, folder / PLACE, threads=threads) as job:
        resumed(job, found[0])
        difference = max(differences(job.out / "final.json", expected / "final.json"), default=0.0)
    if not difference <= LOSS_TOLERANCE:
        raise JobFailed(f"on {threads} threads the figures differ by {difference:.2g}")
    return difference


def differences(ours: Path, theirs: Path) -> Iterator[float]:
    """Relative differences of all numbers that two JSON files hold at the same places."""
    mine, other = (list(numbers(json.loads(path.read_text(encoding="utf-8")))) for path in (ours, theirs))
    if len(mine) != len(other):
        raise JobFailed(f"{len(mine)} figures instead of {len(other)}")
    for a, b in zip(mine, other, strict=True):
        yield 0.0 if a == b or (math.isnan(a) and math.isnan(b)) else abs(a - b) / max(abs(a), abs(b), SMALL)


def numbers(value: object) -> Iterator[float]:
    """Every number in a decoded JSON value, in order."""
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield float(value)


def compare(outcome: Outcome, expected: Outcome) -> None:
    """JobFailed with the names of what differs."""
    names = sorted(expected.files.keys() | outcome.files.keys())
    different = [name for name in names if expected.files.get(name) != outcome.files.get(name)]
    if different:
        raise JobFailed(f"other bytes in {', '.join(different)}")
    if outcome.stdout != expected.stdout:
        raise JobFailed(f"it printed something else: {first_difference(outcome.stdout, expected.stdout)}")


def compare_lines(printed: list[bytes], expected: bytes) -> None:
    """What each process printed must be a stretch of what should be printed; together they must leave no gap."""
    reach = 0
    for number, text in enumerate(printed):
        is_last = number == len(printed) - 1
        at = expected.rfind(text, 0, reach + len(text)) if not is_last else len(expected) - len(text)
        if number == 0:
            at = 0
        if at < 0 or expected[at : at + len(text)] != text:
            raise JobFailed(f"process {number} printed other lines: {text[:200]!r}")
        if at > reach:
            raise JobFailed(f"nobody printed {expected[reach:at][:200]!r}")
        reach = max(reach, at + len(text))


def first_difference(ours: bytes, theirs: bytes) -> str:
    """The first line that differs."""
    for mine, other in zip(ours.splitlines(), theirs.splitlines(), strict=False):
        if mine != other:
            return f"{mine[:100]!r} instead of {other[:100]!r}"
    return f"{len(ours)} bytes instead of {len(theirs)}"
