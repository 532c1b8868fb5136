"""Takes a snapshot out of the job at a loop head, and counts for how long that stopped it."""

from __future__ import annotations

import builtins
import time
import types
from collections.abc import Callable

from . import frames, outfiles, world
from .board import Board
from .objects import Users
from .patience import Patience, Pending
from .progress import progress
from .writer import Taken, Writer

PARKED_POLL_S = 0.005
"""How often a job that stands still reads its orders: the wait is part of every recovery."""

TRANSPARENT = (
    "torch/utils/_contextlib.py",
    "/contextlib.py",
    "runpy",
    "importlib",
    "/functools.py",
    "shoal_hook",
    "/hook/",
)
"""Parts of file names of library functions between the script's frames that hold no state."""


class Cutter:
    """`pending` is what the last cut left to be copied; `root` the folder that file names are told relative to."""

    def __init__(
        self, board: Board, writer: Writer, users: Users, root: str, give_up: Callable[[str], None]
    ) -> None:  # fmt: skip
        self.writer = writer
        self.patience = Patience()
        self.pending: Pending | None = None
        self._board = board
        self._users = users
        self._root = root
        self._give_up = give_up

    def is_wanted(self) -> bool:
        """Whether the node waits for a snapshot that has not been written."""
        return self._board.get("wanted") != self.writer.answered

    def cut(self, frame: types.FrameType, stack: list[types.FrameType], steps: int, rounds: int) -> None:
        """Cut here. Raises Refusal, OSError."""
        began = time.perf_counter()
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]
        board, output = self._board, self.writer.output
        answers, holds = board.get("wanted"), bool(board.get("hold"))
        noted, positions = outfiles.note(output) if output else ([], [])
        state, heap = world.capture(stack, self._users, self._root, self.patience.moments())
        state["steps"], state["rounds"], state["handles"] = steps, rounds, positions
        size = sum(blob.size for blob in heap.blobs)  # type: ignore[attr-defined]
        ram_max = board.get("ram_max")
        stands = holds or bool(ram_max and size > ram_max)
        pending = None if stands else self.patience.begin(heap.blobs)
        for blob in heap.blobs:
            if pending is None or blob not in pending.blobs:
                blob.take(not stands)  # type: ignore[attr-defined]
        strangers = frames.strangers(frame, self._users.files, TRANSPARENT)
        losses = heap.losses + ["variables of %s()" % name for name in strangers]
        board.set("is_complete", 0 if losses else 1)
        board.set("progress_ppm", progress(stack))
        board.say("running", "not in the snapshots: " + ", ".join(losses) if losses else "")
        self.pending = pending
        self.writer.write(Taken(state, heap.blobs, noted, answers, pending), self._give_up, waits=stands)
        self._stalled(began)
        if holds:
            self._hold()

    def settle(self, *, is_urgent: bool) -> None:
        """End a cut's copies; `is_urgent`: wait for them, because an optimizer is about to step."""
        pending = self.pending
        if pending is None or not (is_urgent or pending.is_copied()):
            return
        began = time.perf_counter()
        self.patience.settle(pending)
        self.pending = None
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]
        self._stalled(began, self._board.get("stall_us"))

    def _stalled(self, began: float, before: int = 0) -> None:
        """Count the time since `began` as a stall, `before` being what this cut took so far (µs)."""
        stall = int((time.perf_counter() - began) * 1e6)
        self._board.set("stall_us", before + stall)
        self._board.set("stall_total_us", self._board.get("stall_total_us") + stall)

    def _hold(self) -> None:
        """Stand still until the node lets go; SIGTERM ends the job as ever."""
        self._board.set("held", 1)
        while self._board.get("hold"):
            time.sleep(PARKED_POLL_S)
        self._board.set("held", 0)
