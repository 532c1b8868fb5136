"""The node's end of the board: orders to the hook inside a sandbox, and its words back. Spec: specs/25-guest.md.

The page belongs to the job: it may hold any value, be cut short or deleted. So it is read and written through a
descriptor, never mapped: a mapped page that a job cuts off its file would kill the node (SIGBUS).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import trio

from node.guest.hook.board import BOARD_BYTES, FIELDS, STATES, TEXT_BYTES_MAX, TEXT_OFFSET, Board
from protocol.errors import Unavailable

POLL_SECONDS: Final = 0.05
"""How often a board is read: one `pread` of a page, a few microseconds; as late as this a snapshot is noticed."""

VALUE_MAX: Final = 2**62
"""The largest number that a message can carry; what a job claims beyond it counts as this."""

GO_RESTORE: Final = 1
GO_FROM_BEGINNING: Final = 2
_LEAVE: Final = ("disabled", "ended")


@dataclass(frozen=True, slots=True)
class Words:
    """One look at the board."""

    state: str
    """One of STATES."""
    text: str
    values: tuple[int, ...]

    def get(self, field: str) -> int:
        """The value of a field, at most VALUE_MAX."""
        return min(self.values[FIELDS.index(field)], VALUE_MAX)

    @property
    def has_gone_on(self) -> bool:
        """Whether it restored a snapshot, whatever it has said since: a board is looked at now and then."""
        return self.state == "restored" or self.get("restored_step") > 0


ENDED: Final = Words("ended", "", (0,) * len(FIELDS))
"""What a board says when nobody can write to it any more."""


class GuestLink:
    """A fresh board in `folder`, and what may be asked through it. Close it, or use it in a `with`."""

    def __init__(self, folder: Path, *, is_parked: bool = False, ram_max: int = 0) -> None:
        path = folder / "board"
        Board.create(str(path)).close()
        self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._wanted = 0
        self._seen: tuple[str, str] = ("absent", "")
        self.order("is_parked", int(is_parked))
        self.order("ram_max", ram_max)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file: from now on the board says that the task has ended."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_open(self) -> bool:
        """False once closed."""
        return self._fd >= 0

    def order(self, field: str, value: int) -> None:
        """Write a field of the node's half; once the task has ended nobody reads it."""
        if self.is_open:
            os.pwrite(self._fd, struct.pack("<Q", value), 8 * FIELDS.index(field))

    def read(self) -> Words:
        """What the board says now. Missing bytes read as zero, unknown states as disabled."""
        if not self.is_open:
            return ENDED
        page = os.pread(self._fd, BOARD_BYTES, 0).ljust(BOARD_BYTES, b"\0")
        values = struct.unpack_from(f"<{len(FIELDS)}Q", page)
        number = values[FIELDS.index("state")]
        text = page[TEXT_OFFSET : TEXT_OFFSET + TEXT_BYTES_MAX].split(b"\0", 1)[0].decode("utf-8", "replace")
        clean = "".join(char if char.isprintable() else " " for char in text)
        return Words(STATES[number] if number < len(STATES) else "disabled", clean.strip(), values)

    def news(self) -> Words | None:
        """The board's words when state or text are others than at the last call."""
        words = self.read()
        if (words.state, words.text) == self._seen:
            return None
        self._seen = (words.state, words.text)
        return words

    def release(self, go: int) -> None:
        """Let a parked job go on: GO_RESTORE from `restore/`, or GO_FROM_BEGINNING."""
        self.order("go", go)

    def want(self, *, hold: bool) -> int:
        """Ask for a snapshot at the next loop head; what `wait_answer` waits for."""
        self.order("hold", int(hold))
        self._wanted += 1
        self.order("wanted", self._wanted)
        return self._wanted

    async def wait_answer(self, wanted: int, seconds: float) -> Words:
        """Wait until a snapshot answers the order. Unavailable (`no_snapshot`) with the job's word when none comes."""
        deadline = trio.current_time() + seconds
        while True:
            words = self.read()
            if words.get("answered") >= wanted:
                return words
            if words.state in _LEAVE:
                raise Unavailable(words.text or f"the hook is {words.state}", code="no_snapshot")
            if trio.current_time() >= deadline:
                raise Unavailable(f"the job has not come to a loop head within {seconds:g} s", code="no_snapshot")
            await trio.sleep(POLL_SECONDS)

    async def wait_state(self, states: tuple[str, ...], seconds: float) -> Words | None:
        """Wait until the board's state is one of these; None when it is not in time."""
        with trio.move_on_after(seconds):
            while True:
                words = self.read()
                if words.state in states:
                    return words
                await trio.sleep(POLL_SECONDS)
        return None
