"""What a unit program left in `$SHOAL_OUT/.shoal/`, taken as blobs: the trace of a run, or the results of a replay.

The folder is the job's, so nothing in it is trusted: plain files only, of bounded number and size, opened relative to a
folder that is held open. Spec: specs/31-units.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from blake3 import blake3

from node import outputs
from node.blobs import READ_BYTES, BlobStore
from protocol import wire
from protocol.errors import Refused
from protocol.jobrules import PROOF_FOLDER
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import STATE_BYTES_MAX, Leaf, Results, Trace, UnitResult
from protocol.trace import encode_effect
from protocol.units import KIB, MIB, Digest

INPUT_BYTES_MAX: Final = 16 * MIB
"""What one unit reads besides its state: two million row numbers."""

INDEX: Final = "units.json"
"""How many units are done, and how large the change of each was."""

INDEX_BYTES_MAX: Final = 256 * KIB
"""INDEX with UNITS_MAX effects of the longest form."""


@dataclass(slots=True)
class Taken:
    """What is a blob now."""

    digest: Digest
    size: int
    """Bytes of everything, counted once per file, against the job's disk."""
    made: list[Digest]
    """The blobs that were not here before."""


async def take_trace(folder: Path, units: int, blobs: BlobStore, bytes_max: int, made: list[Digest]) -> Taken:
    """Make a `Trace` of a finished run whose outputs are in `folder`; blobs that are new are added to `made` as they
    come. Refused (`output`, `disk`, `disk_full`)."""
    with opened(folder) as shelf:
        took = _Taking(shelf, blobs, bytes_max, made)
        effects = effects_in(index_of(shelf), units)
        if len(effects) != units:
            raise unfit(f"{len(effects)} of {units} units were computed")
        leaves: list[Leaf] = []
        for index in range(units + 1):
            state, state_bytes = await took.file(f"{index}.state", STATE_BYTES_MAX)
            if index == units:
                leaves.append(Leaf(index, state, state_bytes, ZERO_DIGEST, ZERO_DIGEST, 0))
                break
            read, _ = await took.file(f"{index}.input", INPUT_BYTES_MAX)
            aux, aux_bytes = await took.file(f"{index}.aux", STATE_BYTES_MAX)
            leaves.append(Leaf(index, state, state_bytes, read, aux, aux_bytes))
    trace = Trace(tuple(leaves), b"".join(encode_effect(effect) for effect in effects))
    return took.end(wire.encode(trace))


async def take_results(
    folder: Path, indices: Sequence[int], output: Digest, blobs: BlobStore, bytes_max: int, made: list[Digest]
) -> Taken:
    """Make `Results` of a finished replay. `output` is what is to be said of the job's output. Refused as above."""
    found: list[UnitResult] = []
    with opened(folder) as shelf:
        took = _Taking(shelf, blobs, bytes_max, made)
        for index in indices:
            read, _ = await took.file(f"{index}.input", INPUT_BYTES_MAX)
            aux, aux_bytes = await took.file(f"{index}.aux", STATE_BYTES_MAX)
            state, state_bytes = ZERO_DIGEST, 0
            if took.has(f"{index}.state"):
                state, state_bytes = await took.file(f"{index}.state", STATE_BYTES_MAX)
            found.append(UnitResult(index, read, state, state_bytes, aux, aux_bytes))
    return took.end(wire.encode(Results(tuple(found), output)))


def effects_in(text: bytes, units: int) -> list[float]:
    """Of a file that the job wrote: a number for each unit that is done, of a job with so many. Refused (`output`)."""
    try:
        told = json.loads(text)
        effects = [float(effect) for effect in told["effects"]]
        count = told["units"]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise unfit(f"units.json is garbled: {error}") from None
    if count != units or len(effects) > units:
        raise unfit(f"{len(effects)} of {count!r:.20} units were computed, the job has {units}")
    return effects


def index_of(shelf: int) -> bytes:
    """What INDEX holds in the opened folder of a program that may still run. Refused (`output`) where it is not."""
    fd = outputs.open_plain(INDEX, shelf, f"{PROOF_FOLDER}/{INDEX}")
    try:
        if os.fstat(fd).st_size > INDEX_BYTES_MAX:
            raise unfit(f"{INDEX} has more than {INDEX_BYTES_MAX} bytes")
        return os.pread(fd, INDEX_BYTES_MAX, 0)
    finally:
        os.close(fd)


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """The descriptor of the folder that the program wrote its units to."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    outer = os.open(folder, flags)
    try:
        inner = os.open(PROOF_FOLDER, flags, dir_fd=outer)
    except OSError as error:
        raise unfit(f"the program left no units ({error.strerror}); it ends with shoal_work.run(…)") from None
    finally:
        os.close(outer)
    try:
        yield inner
    finally:
        os.close(inner)


class _Taking:
    """Files of one folder on their way into the store."""

    def __init__(self, shelf: int, blobs: BlobStore, bytes_max: int, made: list[Digest]) -> None:
        self._shelf = shelf
        self._blobs = blobs
        self._bytes_max = bytes_max
        self._size = 0
        self._made = made

    def has(self, name: str) -> bool:
        """Whether there is anything of that name."""
        try:
            os.stat(name, dir_fd=self._shelf, follow_symlinks=False)
        except OSError:
            return False
        return True

    async def file(self, name: str, size_max: int) -> tuple[Digest, int]:
        """(digest, bytes) of a file that is a blob now."""
        with self._plain(name, size_max) as (fd, size):
            if size <= outputs.SMALL_BYTES:
                data = os.pread(fd, size, 0)
                digest, is_new = wire.digest(data), not self._blobs.has(wire.digest(data))
                self._blobs.put(data)
            else:
                seen = await trio.to_thread.run_sync(_digest_of, fd)
                is_new = not self._blobs.has(seen)
                digest, size = await self._blobs.put_file(Path(f"/dev/fd/{fd}")) if is_new else (seen, size)
        if is_new:
            self._made.append(digest)
        return digest, size

    def end(self, data: bytes) -> Taken:
        """The list of it all is a blob as well."""
        digest = wire.digest(data)
        if not self._blobs.has(digest):
            self._made.append(digest)
        self._blobs.put(data)
        return Taken(digest, self._size, self._made)

    @contextmanager
    def _plain(self, name: str, size_max: int) -> Iterator[tuple[int, int]]:
        fd = outputs.open_plain(name, self._shelf, f"{PROOF_FOLDER}/{name}")
        try:
            size = os.fstat(fd).st_size
            self._size += size
            if size > size_max:
                raise unfit(f"{name} has {size} bytes, {size_max} are allowed")
            if self._size > self._bytes_max:
                raise Refused(
                    f"states, inputs and aux have more than {self._bytes_max} bytes",
                    code="disk",
                    fix="Raise resources.disk: it holds the states of all units, and the output.",
                    numbers={"bytes": self._size, "bytes_max": self._bytes_max},
                )
            yield fd, size
        finally:
            os.close(fd)


def _digest_of(fd: int) -> Digest:
    hasher, at = blake3(), 0
    while piece := os.pread(fd, READ_BYTES, at):
        hasher.update(piece)
        at += len(piece)
    return Digest(hasher.digest())


def unfit(detail: str) -> Refused:
    """The refusal of what no unit program leaves."""
    return Refused(detail, code="output", fix="Subclass shoal_work.Work and end the program with shoal_work.run(it).")
