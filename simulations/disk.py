"""What a node keeps across a kill: records and blocks, with the faults of real disks.

Mirrors `node/journal.py` (one frame per block, checked when it is opened, not when it is read) and `node/store.py`
(SQLite in WAL mode: a commit is there or not; stored bytes carry no checksum). What each does about a fault:

    fault    blocks (journal)                                    records (SQLite)
    torn     the last frame is cut when the journal is opened    the old value stays
    lost     frames missing at the end are not noticed           commits missing at the end are not noticed
    rot      refused when opened, unless it is the last frame    not noticed: the flipped bytes are returned
    full     Unavailable (disk_full), nothing written            the same
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from protocol.errors import LocalError, Refused, Unavailable

BLOCK: Final = "block/"
"""Prefix of the keys that go to the journal, as in the node's driver; a height follows."""

VOLATILE: Final = ("log/", "opened/", "receipt/")
"""Prefixes of records that are not flushed one by one, as in `node/store.py`: a power cut may take the last ones."""

CACHED_MAX: Final = 64
"""Writes per file that a lying disk holds back at most: a drive's cache of some MiB at tens of KiB per flush."""

FILE_HEADER_BYTES: Final = 32
MAGIC_BYTES: Final = 16
FRAME_HEADER_BYTES: Final = 68
FRAME_EXTRA_BYTES: Final = 36
"""Of `node/journal.py`: a file begins with 16 bytes of magic and 16 of id; a frame has a header, the block's length
in 4 bytes, the block, and 32 bytes of hash. A flipped bit does different things in each."""


class Disk:
    """One host's disk. `put` is durable on return, except for volatile records and while `lies` is set."""

    __slots__ = (
        "_blocks",
        "_held_blocks",
        "_held_records",
        "_hurt",
        "_hurt_file",
        "_records",
        "_tear",
        "bytes_max",
        "bytes_used",
        "cut",
        "lies",
    )

    def __init__(self, bytes_max: int = 0) -> None:
        """`bytes_max`: room for keys and values together; 0: endless."""
        self.bytes_max = bytes_max
        self.bytes_used = 0
        self.lies = False
        """Flushes are acknowledged but not made: a power cut takes the last writes, in order."""
        self.cut = 0
        """Blocks that opening the journal has dropped so far: torn by a crash, or rotten at the end."""
        self._records: dict[str, bytes] = {}
        self._blocks: list[bytes] = []
        self._held_records: list[tuple[str, bytes | None]] = []
        """Un-flushed record writes: key and what it held before, oldest first."""
        self._held_blocks = 0
        """Un-flushed frames at the journal's end."""
        self._hurt: dict[int, bool] = {}
        """Rotten frames by index: whether the frame's header is hit."""
        self._hurt_file = ""
        """What is hit of the journal's own header: `magic` or `id`."""
        self._tear: Random | None = None

    # ── what the node does ───────────────────────────────────────────────────────────────────────────────────────────
    def put(self, key: str, value: bytes | None) -> None:
        """Write, or delete with None. Raises `Unavailable` (`disk_full`) leaving everything as it was, and
        `LocalError` (`power_cut`) when a crash was set for the middle of this write: the node is dead then."""
        if key.startswith(BLOCK):
            self._append(key, value)
            return
        old = self._records.get(key)
        grows = (0 if value is None else len(key) + len(value)) - (0 if old is None else len(key) + len(old))
        self._claim(key, grows)
        if self._tear is not None and not self._survives():
            self._die(key)
        self._set(key, value)
        if not self.lies and not key.startswith(VOLATILE):
            self._held_records.clear()  # one flush of the log covers every commit before it
        else:
            self._held_records.append((key, old))
            del self._held_records[:-CACHED_MAX]
        if self._tear is not None:
            self._die(key)

    def get(self, key: str) -> bytes | None:
        """One record, as it is on the disk: rot is not noticed."""
        return self._records.get(key)

    def records(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """Records whose key begins with the prefix, in order of key."""
        return sorted(item for item in self._records.items() if item[0].startswith(prefix))

    @property
    def journal(self) -> Sequence[bytes]:
        """The blocks as a running node reads them: grows with `put`, and is not checked."""
        return self._blocks

    def blocks(self) -> list[bytes]:
        """Open the journal: every block by height. Cuts what a crash left of the last append.

        Raises `LocalError` (`journal_damaged`) when a block before an intact one is rotten, and `Refused`
        (`no_journal`) when the file's first bytes are.
        """
        if self._hurt_file == "magic":
            raise Refused("the journal is no journal", code="no_journal", fix="Move the file aside.")
        if self._hurt_file == "id" and 0 not in self._hurt:
            raise LocalError("the file's id is damaged, its blocks are not", code="journal_damaged")
        if self._hurt_file == "id":  # no frame header fits another id, so that all of it looks like a torn tail
            self._cut_from(0)
        elif self._hurt:
            first = min(self._hurt)
            if any(not self._hurt.get(index, False) for index in range(first + 1, len(self._blocks))):
                raise LocalError(
                    f"block {first + 1} is damaged, later blocks are not",
                    code="journal_damaged",
                    fix="Restore the file from a copy, or fetch the blocks again from the other validators.",
                )
            self._cut_from(first)
        return list(self._blocks)

    def wipe(self) -> None:
        """Everything is gone: a new disk, or the damaged journal and records moved aside."""
        self._records.clear()
        self._blocks.clear()
        self._held_records.clear()
        self._hurt.clear()
        self._held_blocks, self._hurt_file, self.bytes_used = 0, "", 0

    # ── what happens to it ───────────────────────────────────────────────────────────────────────────────────────────
    def crash(self, random: Random, torn: bool) -> None:
        """The node ends between two writes. Not `torn`: the process was killed and the system wrote everything out.
        `torn`: the power went away, and of what was not flushed a random beginning is left, per file."""
        self._tear = None
        if torn:
            kept = random.randrange(len(self._held_records) + 1)
            for key, old in reversed(self._held_records[kept:]):
                self._set(key, old)
            lost = self._held_blocks - random.randrange(self._held_blocks + 1)
            if lost:
                self._cut_from(len(self._blocks) - lost)
        self._held_records.clear()
        self._held_blocks = 0

    def tear_next(self, random: Random) -> None:
        """The power goes away in the middle of the next `put`: it raises, and nobody was told that it is written.
        The caller then calls `crash` with `torn`."""
        self._tear = random

    def rot(self, random: Random) -> str:
        """Flip one bit somewhere; says where: a record's key, `block/<height>`, `journal`, or "" (nothing stored)."""
        journal = FILE_HEADER_BYTES if self._blocks else 0
        frames = [FRAME_HEADER_BYTES + FRAME_EXTRA_BYTES + len(block) for block in self._blocks]
        records = [(key, value) for key, value in self.records() if value]
        total = journal + sum(frames) + sum(len(value) for _, value in records)
        if not total:
            return ""
        place, bit = random.randrange(total), 1 << random.randrange(8)
        if place < journal:
            self._hurt_file = "magic" if place < MAGIC_BYTES or self._hurt_file == "magic" else "id"
            return "journal"
        place -= journal
        for index, length in enumerate(frames):
            if place < length:
                self._rot_block(index, place, bit)
                return f"{BLOCK}{index + 1}"
            place -= length
        for key, value in records:
            if place < len(value):
                self._records[key] = _flipped(value, place, bit)
                return key
            place -= len(value)
        raise LocalError("a place beyond the disk's end was drawn", code="bad_place")

    def fill(self) -> None:
        """No room is left, whatever `bytes_max` was; deleting still works. Undo by setting `bytes_max`."""
        self.bytes_max = max(1, self.bytes_used)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _append(self, key: str, value: bytes | None) -> None:
        if value is None or key != f"{BLOCK}{len(self._blocks) + 1}":
            raise LocalError(
                f"{key} does not follow block {len(self._blocks)}: a journal is only appended to", code="bad_block"
            )
        self._claim(key, len(key) + len(value))
        if self._tear is not None and not self._survives():
            self.cut += 1  # a part of the frame is there, and goes when the journal is opened
            self._die(key)
        self._blocks.append(value)
        self.bytes_used += len(key) + len(value)
        self._held_blocks = min(self._held_blocks + 1, CACHED_MAX) if self.lies else 0
        if self._tear is not None:
            self._die(key)

    def _claim(self, key: str, grows: int) -> None:
        if self.bytes_max and grows > 0 and self.bytes_used + grows > self.bytes_max:
            raise Unavailable(
                f"no room for {key}: {grows} bytes more than {self.bytes_used} of {self.bytes_max}",
                code="disk_full",
                fix="Free disk space and start the node again: what was acknowledged is on the disk.",
            )

    def _survives(self) -> bool:
        """Whether the write that the crash interrupts had reached the disk; its writer does not know either way."""
        assert self._tear is not None
        return self._tear.random() < 0.5

    def _die(self, key: str) -> None:
        self._tear = None
        raise LocalError(f"the power went away while {key} was written", code="power_cut")

    def _set(self, key: str, value: bytes | None) -> None:
        old = self._records.pop(key, None)
        if old is not None:
            self.bytes_used -= len(key) + len(old)
        if value is not None:
            self._records[key] = value
            self.bytes_used += len(key) + len(value)

    def _cut_from(self, index: int) -> None:
        for height in range(index, len(self._blocks)):
            self.bytes_used -= len(f"{BLOCK}{height + 1}") + len(self._blocks[height])
            self._hurt.pop(height, None)
        self.cut += len(self._blocks) - index
        del self._blocks[index:]
        if not index:
            self._hurt_file = ""

    def _rot_block(self, index: int, place: int, bit: int) -> None:
        block = self._blocks[index]
        self._hurt[index] = self._hurt.get(index, False) or place < FRAME_HEADER_BYTES
        inside = place - FRAME_HEADER_BYTES - 4
        if 0 <= inside < len(block):
            self._blocks[index] = _flipped(block, inside, bit)


def _flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
