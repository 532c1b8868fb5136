"""The real node with a census: `victim.py CENSUS node run …` counts the tasks and the longest turn of the loop.

The census is three numbers of eight bytes in a mapped file, which the test reads while the node runs.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

CELLS: Final = struct.Struct("=qqq")
"""Tasks alive; µs of processor time of the longest turn since somebody wrote 0 there, and of all turns."""


class Census(trio.abc.Instrument):
    """Counts what the scheduler does."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(CELLS.size))
        with path.open("r+b") as file:
            self._cells = mmap.mmap(file.fileno(), CELLS.size)
        self._tasks = 0
        self._work = 0
        self._woke = time.thread_time()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._tasks += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._tasks -= 1

    def after_io_wait(self, timeout: float) -> None:
        self._woke = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        turn = int((time.thread_time() - self._woke) * 1e6)
        self._work += turn
        longest = CELLS.unpack_from(self._cells)[1]
        CELLS.pack_into(self._cells, 0, self._tasks, max(longest, turn), self._work)


if __name__ == "__main__":
    from shoal.__main__ import main

    trio.run = partial(trio.run, instruments=(Census(Path(sys.argv[1])),))  # type: ignore[assignment]
    sys.argv = ["shoal", *sys.argv[2:]]
    sys.exit(main())
