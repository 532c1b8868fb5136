"""Writes snapshots beside the running job: a folder `<number>.part`, renamed when everything in it is on the disk."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable

from . import outfiles, packing, tensorfile
from .board import Board
from .patience import Pending
from .shield import Refusal, guarded

WAITING_MAX = 2
"""Snapshots that wait to be taken by the node: the double buffer."""


class Taken:
    """What a cut took out of the job."""

    def __init__(
        self, state: dict[str, object], blobs: list[object], noted: list[outfiles.Noted], answers: int,
        pending: Pending | None = None,
    ) -> None:  # fmt: skip
        self.state = state
        self.blobs = blobs
        self.noted = noted
        self.answers = answers
        self.pending = pending


class Writer:
    """One snapshot at a time. `folder` is the snapshot folder, `output` the job's output folder."""

    def __init__(self, board: Board, folder: str, output: str) -> None:
        self._board = board
        self._folder = folder
        self.output = output
        self._thread: threading.Thread | None = None
        self.number = int(board.get("number"))
        self.failure = ""
        self.answered = 0

    def is_free(self) -> bool:
        """Whether a cut may be taken now."""
        if self._thread is not None and self._thread.is_alive():
            return False
        return self.waiting() < WAITING_MAX

    def waiting(self) -> int:
        """Complete snapshots that the node has not taken yet."""
        try:
            return sum(name.isdigit() for name in os.listdir(self._folder))
        except OSError:
            return 0

    def write(self, taken: Taken, give_up: Callable[[str], None], *, waits: bool) -> None:
        """Write in a thread of its own; `waits`: return when it is done."""

        def work() -> None:
            try:
                if taken.pending is not None:
                    taken.pending.copy()
                self._write(taken)
                self.answered = taken.answers
            except Refusal as refusal:  # The job changed a file meanwhile: the next loop head cuts again.
                self.failure = str(refusal)

        self._thread = threading.Thread(target=guarded, args=(work, give_up), name="shoal-writer", daemon=True)
        self._thread.start()
        if waits:
            self._thread.join()

    def _write(self, taken: Taken) -> None:
        began = time.perf_counter()
        number = self.number + 1
        part = os.path.join(self._folder, "%d.part" % number)
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(os.path.join(part, "files"))
        try:
            size = outfiles.copy(self.output, taken.noted, os.path.join(part, "files")) if self.output else 0
            if taken.pending is not None:
                taken.pending.check()
            entries = {blob.name: blob.entry() for blob in taken.blobs}  # type: ignore[attr-defined]
            size += tensorfile.write(os.path.join(part, "tensors.safetensors"), entries)
            size += put(os.path.join(part, "state.msgpack"), packing.pack(taken.state))
            sync(part)
            os.rename(part, os.path.join(self._folder, str(number)))
            sync(self._folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self.number = number
        board = self._board
        board.set("state_bytes", size)
        board.set("copy_us", int((time.perf_counter() - began) * 1e6))
        board.set("number", number)
        board.set("answered", taken.answers)

    def finish(self) -> None:
        """Wait for the snapshot that is being written."""
        if self._thread is not None:
            self._thread.join()


def put(path: str, data: bytes) -> int:
    """Write and sync a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        at = 0
        while at < len(data):
            at += os.write(descriptor, data[at : at + tensorfile.WRITE_BYTES])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return len(data)


def sync(folder: str) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
