"""The full run: `python -m tests.node.guest.corpus_table` writes docs/snapshots-table.md, failures included.

Per script: untouched under the hook; killed five times or more, in rows of one, one and three; resumed on two threads.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

from tests.node.guest.corpus_job import JobFailed, Outcome
from tests.node.guest.corpus_oracle import LOSS_TOLERANCE, Kill, killed, on_other_threads, reference, watched
from tests.node.guest.corpus_scripts import FRAMEWORKS, PLAIN, ROOT, SCRIPTS, Script

T = TypeVar("T")

TABLE: Final = ROOT / "docs" / "snapshots-table.md"
ROWS: Final = (1, 1, 3)
"""Kills in a row, each row from the start: a snapshot of a resumed process must be as good as one of the first."""

REASON_CHARS: Final = 300
"""Length of a reason in the table; the end of a traceback says more than its beginning."""
VERSIONS: Final = """
import platform
from importlib.metadata import PackageNotFoundError, version
found = []
for name in ("torch", "numpy", "scikit-learn", "transformers", "accelerate", "lightning", "tqdm"):
    try:
        found.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        pass
print("Python", platform.python_version(), "with", ", ".join(found))
"""

HEAD: Final = """# Which scripts come back from a kill, bit by bit

Written by `make corpus`; do not edit. Each script of [tests/corpus](../tests/corpus/README.md) knows nothing of Shoal.
It is killed with SIGKILL at random steps some time after a snapshot and resumed in a fresh process and a fresh folder,
{kills} times: twice alone, then three times in a row. It passes when every file that it leaves (weights, optimizer,
random streams, counters, metrics) has the same bytes as when nobody touches it, and no line that it prints is lost.

*Untouched*: with the hook and one snapshot, not killed. *2 threads*: one snapshot resumed under two threads instead of
one; the largest relative difference of any loss or score that the script notes, allowed are {tolerance:.0%}.
*Stood still*: median time for which one snapshot stopped the script.

{facts}

| script | what it is about | untouched | kills survived | 2 threads | snapshot | stood still |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(slots=True)
class Row:
    """What became of one script."""

    script: Script
    untouched: str = ""
    kills: list[Kill] = field(default_factory=list)
    tried: int = 0
    threads: str = ""
    faults: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def is_good(self) -> bool:
        """Nothing failed."""
        return not self.faults


def examine(script: Script, folder: Path, seed: str) -> Row:
    """The whole programme for one script."""
    row = Row(script, skipped=script.why_not())
    if row.skipped:
        return row
    try:
        expected = reference(script, folder / "reference")
        if reference(script, folder / "again") != expected:
            raise JobFailed("it does not do the same twice without the hook")
    except JobFailed as error:
        row.faults.append(str(error))
        return row
    steps = attempt(row, "untouched", lambda: watched(script, folder / "untouched", expected))
    row.untouched = "same" if steps is not None else "**differs**"
    exact = replace(script, steps=steps) if steps else script
    kill_in_rows(row, exact, folder, expected, seed)
    difference = attempt(
        row, "2 threads", lambda: on_other_threads(exact, folder / "two", folder / "reference" / "out", seed)
    )
    row.threads = "**fails**" if difference is None else f"{difference:.1g}" if difference else "same"
    return row


def kill_in_rows(row: Row, script: Script, folder: Path, expected: Outcome, seed: str) -> None:
    """All rows of kills; a row that fails counts none of its kills."""
    for number, count in enumerate(ROWS):
        place, dice = folder / f"row{number}", f"{seed} {script.name} {number}"
        row.tried += count
        survived = attempt(row, f"{count} in a row", partial(killed, script, place, expected, dice, count))
        row.kills += survived or []


def attempt(row: Row, name: str, work: Callable[[], T]) -> T | None:
    """Do it; note why it failed."""
    try:
        return work()
    except JobFailed as error:
        row.faults.append(f"{name}: {error}")
        return None


def line(row: Row) -> str:
    """Its line of the table."""
    name = f"[{row.script.name}](../{row.script.main.relative_to(ROOT).as_posix()})"
    if row.skipped:
        return f"| {name} | {row.script.about} | not run | | | | |"
    passed = (
        f"{len(row.kills)} of {row.tried}" if len(row.kills) == row.tried else f"**{len(row.kills)} of {row.tried}**"
    )
    size = f"{median(kill.size for kill in row.kills) / 1000:.0f} kB" if row.kills else ""
    stood = f"{median(kill.stall_us for kill in row.kills) / 1000:.1f} ms" if row.kills else ""
    return f"| {name} | {row.script.about} | {row.untouched} | {passed} | {row.threads} | {size} | {stood} |"


def page(rows: Sequence[Row]) -> str:
    """The whole document."""
    head = HEAD.format(kills=sum(ROWS), tolerance=LOSS_TOLERANCE, facts=facts(rows))
    faults = [f"- **{row.script.name}**: {one_line(fault)}" for row in rows for fault in row.faults]
    left_out = [f"- **{row.script.name}**: not run, {row.skipped}" for row in rows if row.skipped]
    lacking = [(row.script.name, kill.lacks) for row in rows for kill in row.kills if kill.lacks]
    notes = [
        f"- **{name}**: the hook said of a snapshot that came back all the same: {one_line(what)}"
        for name, what in dict(lacking).items()
    ]
    below = [*faults, *left_out, *notes] or ["Nothing."]
    return head + "\n".join(map(line, rows)) + "\n\n## What failed, and why\n\n" + "\n".join(below) + "\n"


def one_line(text: str) -> str:
    """A reason, cut to what a list can hold."""
    words = " ".join(text.split())
    return words if len(words) <= REASON_CHARS else words[: REASON_CHARS // 3] + " … " + words[-REASON_CHARS * 2 // 3 :]


def facts(rows: Sequence[Row]) -> str:
    """How many passed, and on what."""
    run = [row for row in rows if not row.skipped]
    good, survived, tried = sum(row.is_good for row in run), sum(len(r.kills) for r in run), sum(r.tried for r in run)
    versions = ", ".join(filter(None, (versions_of(venv) for venv in (PLAIN, FRAMEWORKS))))
    return (
        f"**{good} of {len(run)} scripts pass in everything, {survived} of {tried} kills were survived; "
        f"{len(rows) - len(run)} scripts were not run.** "
        f"{platform.machine()}, {processor()}; {versions}."
    )


def versions_of(venv: str) -> str:
    """What an environment runs, `Python 3.11.7 with torch 2.13.0`."""
    python = ROOT / venv / "bin" / "python"
    if not python.exists():
        return ""
    asked = subprocess.run([str(python), "-c", VERSIONS], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def processor() -> str:
    """The model name of the first core."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor()


def main(words: Sequence[str]) -> int:
    """Run it all; 1 when a script fails that is not known to."""
    parser = argparse.ArgumentParser(prog="python -m tests.node.guest.corpus_table", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="script", help="only these, and write no table")
    parser.add_argument("--at-once", type=int, default=2, help="scripts that run at the same time (2)")
    parser.add_argument("--seed", default="corpus", help="another seed draws other steps to kill at")
    options = parser.parse_args(words)
    known = {script.name: script for script in SCRIPTS}
    if unknown := sorted(set(options.names) - known.keys()):
        parser.error(f"no such script: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [script for script in SCRIPTS if not options.names or script.name in options.names]
    rows = [Row(script, skipped="its turn has not come yet") for script in chosen]
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder, ThreadPoolExecutor(options.at_once) as pool:
        work = {pool.submit(examine, s, Path(folder, s.name), options.seed): n for n, s in enumerate(chosen)}
        for done in as_completed(work):
            row = rows[work[done]] = done.result()
            verdict = row.skipped or "; ".join(map(one_line, row.faults)) or "passes"
            print(f"corpus: {row.script.name}: {len(row.kills)} of {row.tried} kills, {verdict}", flush=True)
            if not options.names:  # After each, so that a run that is broken off leaves what it found.
                TABLE.write_text(page(rows), encoding="utf-8")
    if not options.names:
        print(f"corpus: wrote {TABLE.relative_to(ROOT)}", flush=True)
    return int(any(bool(row.faults) != bool(row.script.fails) for row in rows if not row.skipped))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
