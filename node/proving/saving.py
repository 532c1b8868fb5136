"""What a running unit program has left so far, copied out of its reach: what a snapshot of it holds.

Everything about the units that are done lies in one stream, which only grows:

    state 0 | input 0 | aux 0 | state 1 | input 1 | aux 1 | … | state j        each padded to eight bytes

The stream is cut into segments, so what was sent once is not sent again, but for less than SMALL_BYTES at its end; a
table says how long each piece is. Spec: specs/31-units.md.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec
from blake3 import blake3
from msgspec import Meta, Struct

from node.blobs import READ_BYTES
from node.executors.interface import Task
from node.outputs import open_plain
from node.protection import layout
from node.protection.contents import STREAM_SUFFIX, Contents, FileEntry
from node.protection.removal import remove
from node.protection.safetensors_header import bad
from node.proving.taking import INPUT_BYTES_MAX, effects_in, index_of, opened
from protocol.completions import FirstUnits
from protocol.errors import Refused, Unavailable
from protocol.jobrules import PROOF_FOLDER
from protocol.jobspec import ZERO_DIGEST
from protocol.prefix import root_of
from protocol.proof import STATE_BYTES_MAX, UNITS_MAX, Leaf, Size, Trace
from protocol.trace import encode_effect
from protocol.units import Digest
from storage.cutting import SMALL_BYTES

TABLE: Final = "table"
"""The file beside the segments that says what they hold."""

PAD: Final = 8
"""Bytes: tensors of any element stay in step with the shuffle before compression."""

SEGMENTS_MAX: Final = 256
"""Then they become one again, which is sent anew: each is mapped while a snapshot is sealed, and takes a descriptor."""

NOTHING_NEW: Final = "no unit was done since the last snapshot"


class Table(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What lies in the stream."""

    effects: Annotated[tuple[float, ...], Meta(min_length=1, max_length=UNITS_MAX)]
    """Of each unit that was done; -1: as large as can be."""
    sizes: Annotated[tuple[tuple[Size, Size, Size], ...], Meta(min_length=1, max_length=UNITS_MAX)]
    """Bytes of state, input and aux of each of them."""
    last: Size
    """Bytes of the state behind them."""


class UnitShelf:
    """The saved units of one task. Its methods block; one at a time."""

    def __init__(self, task: Task, units: int) -> None:
        self._task = task
        self._units = units
        self._folder = task.folder / "taken"
        self.begun = 0
        """Units that came with the snapshot that the run goes on from."""
        self.clear()

    def clear(self) -> None:
        """Nothing is saved: the program begins at its beginning."""
        self._bytes = self.begun = 0
        self._table = Table((), (), 0)
        self._trace: Trace | None = None
        self._given = b""

    @property
    def saved(self) -> int:
        """Units of which everything lies in the segments."""
        return len(self._table.sizes)

    def adopt(self, folder: Path, table: Table, trace: Trace, given: bytes) -> None:
        """Go on with the segments of a snapshot that was checked, in a folder of our own. `given`: the list of units
        that the program finds, and writes anew as it begins."""
        remove(self._folder, self._task.folder)
        folder.rename(self._folder)
        self._folder.chmod(0o700)
        self._table, self._trace, self.begun, self._given = table, trace, trace.units, given
        self._bytes = sum(path.stat().st_size for path in self._segments())

    def done(self) -> int:
        """Units that can be saved now: never the last one, whose end is the claim. None before the program has begun,
        though it found some."""
        try:
            with opened(self._task.outside) as shelf:
                text = index_of(shelf)
                return 0 if text == self._given else min(len(effects_in(text, self._units)), self._units - 1)
        except Refused:  # Nothing yet, or nothing that a unit program writes: its end will tell.
            return 0

    def save(self) -> tuple[Path, Contents, FirstUnits]:
        """The folder of a snapshot, what is in it, and which units these are. Refused (`output`, `snapshot_bad`,
        `disk_full`), Unavailable (`no_snapshot`) when no unit is done here."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with opened(self._task.outside) as shelf:
            effects = effects_in(index_of(shelf), self._units)[: self._units - 1]
            if len(effects) > self.saved:
                self._append(shelf, effects)
        if self._trace is None or self.saved <= self.begun:
            raise Unavailable(NOTHING_NEW, code="no_snapshot")
        (self._folder / TABLE).write_bytes(msgspec.msgpack.encode(self._table))
        names = [path.name for path in self._segments()] + [TABLE]
        files = tuple(FileEntry(name, (self._folder / name).stat().st_size) for name in names)
        return self._folder, Contents(files), FirstUnits(self.saved, root_of(self._trace, self.saved), self.begun)

    def _append(self, shelf: int, effects: list[float]) -> None:
        """Write on at the end of the stream; when that fails nothing has changed."""
        segments = self._segments()
        path = segments[-1] if segments else self._folder / f"{0:06d}{STREAM_SUFFIX}"
        before = path.stat().st_size if segments else 0
        if before >= SMALL_BYTES:
            path, before = self._folder / f"{int(path.stem) + 1:06d}{STREAM_SUFFIX}", 0
        try:
            with path.open("ab") as into:
                table, trace = self._copied(_Copying(shelf, into, layout.bytes_max(self._task) - self._bytes), effects)
            layout.check_room(self._task, 0)
        except (Refused, OSError):
            os.truncate(path, before)
            raise
        self._table, self._trace = table, trace
        self._bytes += path.stat().st_size - before
        if len(segments) >= SEGMENTS_MAX:
            self._merge(self._segments(), self._folder / f"{int(path.stem) + 1:06d}{STREAM_SUFFIX}")

    def _copied(self, copying: _Copying, effects: list[float]) -> tuple[Table, Trace]:
        """The units behind those that are saved, into a segment."""
        known = self._trace
        leaves = list(known.leaves) if known else [last_leaf(0, *copying.file("0.state", STATE_BYTES_MAX))]
        sizes = list(self._table.sizes)
        for index in range(self.saved, len(effects)):
            before = leaves.pop()
            read, read_bytes = copying.file(f"{index}.input", INPUT_BYTES_MAX)
            aux, aux_bytes = copying.file(f"{index}.aux", STATE_BYTES_MAX)
            leaves.append(Leaf(index, before.state, before.state_bytes, read, aux, aux_bytes))
            leaves.append(last_leaf(index + 1, *copying.file(f"{index + 1}.state", STATE_BYTES_MAX)))
            sizes.append((before.state_bytes, read_bytes, aux_bytes))
        fresh = [effect if 0 <= effect < math.inf else -1.0 for effect in effects[self.saved :]]
        told = (*self._table.effects, *fresh)
        return Table(told, tuple(sizes), leaves[-1].state_bytes), trace_of(leaves, told)

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{STREAM_SUFFIX}"))

    def _merge(self, segments: list[Path], target: Path) -> None:
        layout.check_room(self._task, self._bytes)
        with target.open("xb") as into:
            for path in segments:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, into, READ_BYTES)
        for path in segments:
            path.unlink()


def last_leaf(index: int, state: Digest, size: int) -> Leaf:
    """The leaf behind the last unit."""
    return Leaf(index, state, size, ZERO_DIGEST, ZERO_DIGEST, 0)


def trace_of(leaves: list[Leaf], effects: tuple[float, ...]) -> Trace:
    """The trace over so many units."""
    return Trace(tuple(leaves), b"".join(encode_effect(effect) for effect in effects))


class _Copying:
    """Files of the job's folder on their way to the end of the stream."""

    def __init__(self, shelf: int, into: BinaryIO, bytes_max: int) -> None:
        self._shelf = shelf
        self._into = into
        self._left = bytes_max

    def file(self, name: str, size_max: int) -> tuple[Digest, int]:
        """(digest, bytes) of a file as it was copied. Whoever changes it meanwhile gets what is in the copy."""
        fd = open_plain(name, self._shelf, f"{PROOF_FOLDER}/{name}")
        try:
            hasher, at = blake3(), 0
            while piece := os.pread(fd, READ_BYTES, at):
                at += len(piece)
                if at > min(size_max, self._left):
                    raise bad(f"{name} is too large for a snapshot of this job")
                hasher.update(piece)
                self._into.write(piece)
            self._into.write(bytes(-at % PAD))
            self._left -= at + -at % PAD
            return Digest(hasher.digest()), at
        finally:
            os.close(fd)
