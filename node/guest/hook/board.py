"""The board between a node and the job it runs: one page of shared memory, a file that both map.

The node writes orders, the job writes what it did; each field has one writer, so nothing is locked. Spec:
specs/25-guest.md. This module runs on both sides, on the standard library alone.
"""

from __future__ import annotations

import mmap
import os
import struct

BOARD_BYTES = 4096
"""One page."""

MAGIC = 0x5348_4F41_4C42_3031
"""`SHOALB01`: another layout has another number."""

FIELDS = (
    "magic",
    # ── orders of the node ──
    "wanted",  # how many snapshots it has asked for so far: the job cuts one at its next loop head
    "hold",  # 1: after the next cut stand still there (a handover); 0: go on
    "go",  # 0: a parked job waits; 1: restore from `restore/`; 2: run from the beginning
    "is_parked",  # 1: run to the first loop head and wait for `go` there
    "ram_max",  # bytes of memory that copies for snapshots may take; 0: no bound
    # ── words of the job ──
    "state",  # one of STATES
    "steps",  # optimizer steps (or loop rounds without an optimizer) done, over all epochs of the chunk
    "progress_ppm",  # share of all rounds that is done, where the outer loops know their length; else 0
    "number",  # of the last complete snapshot in the folder
    "answered",  # the value of `wanted` that the last complete snapshot answers
    "stall_us",  # how long the last cut stopped the job
    "stall_total_us",
    "copy_us",  # how long the last snapshot took to be written beside the running job
    "state_bytes",  # size of the last snapshot
    "restored_step",  # the step from which a restored job went on
    "held",  # 1: standing still because of `hold`
    "is_complete",  # 1: everything that the script's own frames hold is in the snapshots
)

STATES = ("absent", "loaded", "parked", "running", "restored", "disabled", "ended")
"""absent: no hook has spoken. disabled: `text` says why; the job goes on without snapshots of this tier."""

TEXT_OFFSET = 1024
TEXT_BYTES_MAX = 1024


class Board:
    """The mapped page. `path` names the file, which the node makes with `Board.create`."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size < BOARD_BYTES:
                raise ValueError("no board: " + path)
            self._page = mmap.mmap(descriptor, BOARD_BYTES)
        finally:
            os.close(descriptor)

    @classmethod
    def create(cls, path: str) -> Board:
        """A fresh board, all zero but its magic. Every user may write to it: the sandbox has another user id."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            os.ftruncate(descriptor, BOARD_BYTES)
            os.fchmod(descriptor, 0o666)
        finally:
            os.close(descriptor)
        board = cls(path)
        board.set("magic", MAGIC)
        return board

    def get(self, field: str) -> int:
        """The value of a field; an aligned word is read whole."""
        return int(struct.unpack_from("<Q", self._page, 8 * FIELDS.index(field))[0])

    def set(self, field: str, value: int) -> None:
        """Write a field."""
        struct.pack_into("<Q", self._page, 8 * FIELDS.index(field), value)

    @property
    def state(self) -> str:
        """One of STATES; a value out of range (a hostile job) reads as disabled."""
        value = self.get("state")
        return STATES[value] if value < len(STATES) else "disabled"

    @property
    def text(self) -> str:
        """The job's word to the renter: why it is disabled, what is not protected."""
        raw = bytes(self._page[TEXT_OFFSET : TEXT_OFFSET + TEXT_BYTES_MAX])
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    def say(self, state: str, text: str = "") -> None:
        """The text first, then the state that tells to read it."""
        data = text.encode("utf-8")[: TEXT_BYTES_MAX - 1]
        self._page[TEXT_OFFSET : TEXT_OFFSET + TEXT_BYTES_MAX] = data.ljust(TEXT_BYTES_MAX, b"\0")
        self.set("state", STATES.index(state))

    def close(self) -> None:
        """Unmap."""
        self._page.close()
