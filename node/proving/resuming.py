"""A unit program that goes on where another provider's run of it was: the states of a snapshot, checked against what
their makers signed, laid where the program looks for them. Spec: specs/31-units.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import trio
from blake3 import blake3

from node.blobs import READ_BYTES, BlobStore
from node.executors.interface import Task
from node.protection.contents import STREAM_SUFFIX
from node.protection.hosting import Live, begin_again
from node.protection.removal import remove
from node.protection.restoring import bring_folder, tell
from node.protection.safetensors_header import bad
from node.protection.shelter import Shelter
from node.proving.program import check_state
from node.proving.saving import PAD, TABLE, Table, UnitShelf, last_leaf, trace_of
from node.proving.taking import INDEX, INPUT_BYTES_MAX
from protocol.effects import Run
from protocol.errors import ShoalError
from protocol.jobrules import PROOF_FOLDER
from protocol.prefix import root_of
from protocol.proof import Leaf, Trace
from protocol.snapshots import Manifest
from protocol.units import KIB, Digest

TABLE_BYTES_MAX: Final = 256 * KIB
"""A table of UNITS_MAX units: nine bytes for an effect, sixteen for three sizes."""

_decoder: Final = msgspec.msgpack.Decoder(Table)


async def restore_units(live: Live, work: Run, task: Task, shelf: UnitShelf, blobs: BlobStore, shelter: Shelter) -> int:
    """Lay everything of the units that are done below the output folder, before the program starts. The unit at which
    it goes on; 0 when it begins at its beginning, and its log and its provider hear why."""
    assert work.resume is not None
    manifest = work.resume.manifest
    try:
        folder = await bring_folder(work.resume, work.secret, task, blobs, shelter)
        await trio.to_thread.run_sync(_hand_in, folder, manifest, work.spec.units, task, shelf)
    except (ShoalError, OSError) as error:
        cause = error.detail if isinstance(error, ShoalError) else f"the node's disk failed ({error.strerror})"
        begin_again(live, f"snapshot {manifest.number} could not be restored: {cause}")
        tell(live, "began_again")
        return 0
    live.line(f"shoal: goes on from snapshot {manifest.number} at unit {shelf.begun}")
    tell(live, "attached")
    return shelf.begun


def _hand_in(folder: Path, manifest: Manifest, units: int, task: Task, shelf: UnitShelf) -> None:
    target = task.folder / "units.new"
    remove(target, task.folder)
    target.mkdir()
    try:
        table, trace = read_units(folder, target, manifest, units)
    except (ShoalError, OSError):
        remove(target, task.folder)
        raise
    given = json.dumps({"effects": table.effects, "units": units}).encode() + b"\n"  # Programs write no line's end.
    (target / INDEX).write_bytes(given)
    for path in target.iterdir():
        path.chmod(0o444)
    target.chmod(0o777)  # The job, which may have another user id, goes on in it.
    target.rename(task.outside / PROOF_FOLDER)
    (folder / TABLE).unlink()
    shelf.adopt(folder, table, trace, given)


def read_units(folder: Path, target: Path, manifest: Manifest, units: int) -> tuple[Table, Trace]:
    """The pieces of an opened snapshot as files in a new folder. Refused (`snapshot_bad`, `inputs`) unless somebody can
    go on from it; blocks."""
    table, trace = unpack(folder, target)
    check(trace, manifest, units)
    check_state(target / f"{trace.units}.state", trace.units)
    return table, trace


def check(trace: Trace, manifest: Manifest, units: int) -> None:
    """Refused (`snapshot_bad`) unless these are the states to which everybody who made them has signed, as many as the
    manifest says."""
    inherited = manifest.inherited or ()
    if not inherited or manifest.tier != "application":
        raise bad("nobody answers for the units in it")
    if not trace.units == manifest.step == inherited[-1].units < units:
        raise bad(f"{trace.units} units are in it, step {manifest.step} of {units} is what it is said to be")
    for item in inherited:
        if item.units > trace.units or root_of(trace, item.units) != item.root:
            raise bad(f"its first {item.units} units are not those that the provider of lease {item.epoch} signed for")


def unpack(folder: Path, target: Path) -> tuple[Table, Trace]:
    """The pieces of a stream as files in a new folder, and what they are. Refused (`snapshot_bad`)."""
    table = _table(folder / TABLE)
    segments = sorted(path for path in folder.iterdir() if path.name != TABLE)
    if not segments or any(not path.is_file() or path.suffix != STREAM_SUFFIX for path in segments):
        raise bad("it holds files that are no stream of units")
    stream, leaves = _Stream(segments), list[Leaf]()
    for index, (state_bytes, input_bytes, aux_bytes) in enumerate(table.sizes):
        if input_bytes > INPUT_BYTES_MAX:
            raise bad(f"the input of unit {index} has {input_bytes} bytes")
        state = stream.piece(target / f"{index}.state", state_bytes)
        read = stream.piece(target / f"{index}.input", input_bytes)
        aux = stream.piece(target / f"{index}.aux", aux_bytes)
        leaves.append(Leaf(index, state, state_bytes, read, aux, aux_bytes))
    units = len(table.sizes)
    leaves.append(last_leaf(units, stream.piece(target / f"{units}.state", table.last), table.last))
    stream.end()
    return table, trace_of(leaves, table.effects)


def _table(path: Path) -> Table:
    if not path.is_file() or path.stat().st_size > TABLE_BYTES_MAX:
        raise bad("it has no table of its units")
    try:
        table = _decoder.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise bad(f"the table of its units is garbled: {str(error)[:120]}") from None
    if len(table.effects) != len(table.sizes):
        raise bad("the table of its units does not agree with itself")
    return table


class _Stream:
    """Segments, read as one file."""

    def __init__(self, segments: list[Path]) -> None:
        self._segments = segments
        self._at = 0

    def piece(self, target: Path, size: int) -> Digest:
        """Write the next piece to a file of its own; its digest."""
        hasher = blake3()
        with target.open("xb") as into:
            self._copy(size, into, hasher)
        self._copy(-size % PAD, None, blake3())
        return Digest(hasher.digest())

    def end(self) -> None:
        """Refused (`snapshot_bad`) when something is left."""
        if self._segments:
            raise bad("it holds more than its table says")

    def _copy(self, size: int, into: BinaryIO | None, hasher: blake3) -> None:
        while size:
            if not self._segments:
                raise bad("its stream of units is cut short")
            with self._segments[0].open("rb") as source:
                source.seek(self._at)
                piece = source.read(min(READ_BYTES, size))
            hasher.update(piece)
            if into is not None:
                into.write(piece)
            size -= len(piece)
            self._at += len(piece)
            self._next()

    def _next(self) -> None:
        while self._segments and self._at >= self._segments[0].stat().st_size:
            self._segments.pop(0)
            self._at = 0
