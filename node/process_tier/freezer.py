"""Standing still: every process of a sandbox at once, by the kernel's freezer, and going on again for certain.

Both kernel interfaces are spoken. v1: the processes move to a group of our own, named after the node, so that what a
killed node left frozen is found, thawed and removed at the next start. v2: the task's own group is frozen where it is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.executors import cgroup
from node.executors.process import descendants
from protocol.errors import Unavailable

ROOT: Final = Path("/sys/fs/cgroup")

STILL_SECONDS: Final = 5.0
"""For all processes to stand still; one that waits for a dead disk never does."""

LOOK_SECONDS: Final = 0.002
"""Between two looks whether they do: freezing takes microseconds."""

EMPTY_SECONDS: Final = 10.0
"""For a thawed group to become empty: processes that were killed meanwhile have to die first."""

ROUNDS: Final = 50
"""Times that a sandbox is searched for processes which were forked while the others were being moved."""

MARK: Final = "shoal-freeze-"


@dataclass(frozen=True, slots=True)
class Freezer:
    """A group whose processes can be held."""

    folder: Path
    is_ours: bool
    """Made for freezing, to be emptied and removed afterwards."""

    @property
    def _is_v1(self) -> bool:
        return (self.folder / "freezer.state").exists()

    def pids(self) -> list[int]:
        """Everybody in the group."""
        return [int(line) for line in (self.folder / "cgroup.procs").read_text().split()]

    def take(self, pids: Sequence[int]) -> None:
        """Move processes into the group; who has ended meanwhile is left out."""
        for pid in pids:
            _write_pid(self.folder, pid)

    def set(self, *, frozen: bool) -> None:
        """Ask for it; `is_frozen` says when it is so."""
        if self._is_v1:
            (self.folder / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (self.folder / "cgroup.freeze").write_text("1" if frozen else "0")

    def is_frozen(self) -> bool:
        """Whether every process stands still."""
        if self._is_v1:
            return (self.folder / "freezer.state").read_text().strip() == "FROZEN"
        return "frozen 1" in (self.folder / "cgroup.events").read_text()

    async def dissolve(self, home: Path) -> None:
        """Thaw; a group of ours is emptied into `home` and removed. Never raises for what is gone already.

        Who was killed while it stood still dies now, and is in the group until the kernel is done with it."""
        if not self.folder.is_dir():
            return
        self.set(frozen=False)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + EMPTY_SECONDS):
            while self.is_ours and not self._is_removed(home):  # noqa: ASYNC110  the kernel has no event for v1
                await trio.sleep(LOOK_SECONDS)

    def _is_removed(self, home: Path) -> bool:
        try:
            for pid in self.pids():
                _write_pid(home, pid)
            self.folder.rmdir()
        except OSError:
            return not self.folder.is_dir()
        return True


def why_not() -> str:
    """Empty when this process may freeze others."""
    top = _top()
    if top is None:
        return "this kernel has no freezer (CONFIG_CGROUP_FREEZER)"
    return "" if os.access(top, os.W_OK) else f"no right to make groups below {top}"


@asynccontextmanager
async def frozen(first: int, name: str) -> AsyncIterator[Freezer]:
    """Everything from process `first` down stands still inside; afterwards it runs where it ran before."""
    top = _top()
    if top is None:
        raise Unavailable(why_not(), code="no_freezer")
    home = _home(first, top)
    is_v1 = _is_v1(top)
    freezer = Freezer(top / f"{MARK}{name}" if is_v1 else home, is_ours=is_v1)
    if not is_v1 and home == _home(os.getpid(), top):
        raise Unavailable("the job has no control group of its own", code="no_freezer")
    try:
        freezer.folder.mkdir(exist_ok=True)
        await _hold(freezer, first)
        yield freezer
    except OSError as error:
        raise Unavailable(f"the job cannot be frozen: {error.strerror}", code="not_still") from error
    finally:
        await freezer.dissolve(home)


async def _hold(freezer: Freezer, first: int) -> None:
    for _ in range(ROUNDS):
        if freezer.is_ours:
            freezer.take(sorted(set(descendants(first)) - set(freezer.pids())))
        freezer.set(frozen=True)
        with trio.move_on_after(STILL_SECONDS):
            while not freezer.is_frozen():  # noqa: ASYNC110  the kernel has no event for v1
                await trio.sleep(LOOK_SECONDS)
        if not freezer.is_frozen():
            raise Unavailable(f"the job did not stand still within {STILL_SECONDS:g} s", code="not_still")
        if set(descendants(first)) <= set(freezer.pids()):
            return
        freezer.set(frozen=False)
    raise Unavailable("the job starts processes faster than they can be held", code="not_still")


async def clean(label: str) -> None:
    """Thaw and remove what an earlier process of this node left frozen."""
    for folder in list(_leftovers(label)):
        await Freezer(folder, is_ours=folder.name.startswith(MARK)).dissolve(folder.parent)


def _leftovers(label: str) -> Iterator[Path]:
    top = _top()
    if top is None:
        return
    yield from top.glob(f"{MARK}{label}-*/")
    if not _is_v1(top):
        yield from top.glob(f"{cgroup.prefix(label)}*/")


def _write_pid(folder: Path, pid: int) -> None:
    try:
        (folder / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return


def _top() -> Path | None:
    """Below what a group for freezing is made: v1's own hierarchy, else our own v2 group."""
    if (ROOT / "freezer").is_dir():
        return ROOT / "freezer"
    if (ROOT / "cgroup.controllers").exists():
        return _home(os.getpid(), ROOT)
    return None


def _is_v1(top: Path) -> bool:
    return top == ROOT / "freezer"


def _home(pid: int, top: Path) -> Path:
    """The group that a process is in, in the hierarchy of `top`."""
    wanted = "freezer" if _is_v1(top) else ""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == wanted:
            return (top if wanted else ROOT) / path.lstrip("/")
    return top
