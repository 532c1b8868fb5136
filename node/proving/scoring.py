"""The child that reads what strangers computed: `python -m node.proving.scoring`, one request in, one answer out.

It limits itself before it opens a file, so that a bomb takes this process and no other. Between files it says what it
is about to read: when it dies, the parent knows whose file that was. Spec: specs/31-units.md.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from protocol.completions import UnitError
from protocol.errors import Refused
from protocol.proof import SAMPLES_MAX, STATE_BYTES_MAX, Kind, Tolerance
from protocol.units import GIB, MIB
from verifier import comparing, drift, score
from verifier.comparing import UnitScore
from verifier.tensors import Array, Tensors, check_finite, decode

CPU_SECONDS: Final = 120
"""For each unit: a comparison reads every state a few times, 16 s for three of 256 MiB."""

FILES_MAX: Final = 64
"""Descriptors: the interpreter, its libraries and one blob at a time."""

MEMORY_TIMES: Final = 16
"""Address space per byte of the largest file: six files mapped, and numbers of 32 bits worked on in 64."""

MEMORY_SPARE: Final = 2 * GIB
"""Address space for the interpreter and its libraries, most of it never touched."""

ANSWER_BYTES_MAX: Final = 1 * MIB
"""Everything it says: SAMPLES_MAX lines of a report, and the turns between them. It may write no longer file."""

REQUEST_BYTES_MAX: Final = 1 * MIB
"""SAMPLES_MAX items of six paths."""

Side = Literal["provider", "auditor", "compare"]


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """Files of one unit; an empty name where there is none."""

    index: int
    start: str
    claimed: str
    replayed: str
    claimed_aux: str
    replayed_aux: str


class Request(Struct, frozen=True, forbid_unknown_fields=True):
    """What the parent asks: one line of JSON."""

    kind: Kind
    tolerance: Tolerance
    items: tuple[Item, ...]
    secret: bytes = b""
    """Of whom it asks for the direction of small errors."""


class Turn(Struct, frozen=True, forbid_unknown_fields=True, tag="turn"):
    """What comes next: reading somebody's file, or comparing."""

    side: Side
    index: int


class Fault(Struct, frozen=True, forbid_unknown_fields=True, tag="fault"):
    """A file that no honest program writes; the end."""

    side: Side
    detail: str


class Done(Struct, frozen=True, forbid_unknown_fields=True, tag="done"):
    """Every unit was compared; the end."""

    units: tuple[UnitScore, ...]
    errors: tuple[UnitError, ...] = ()


Word = Turn | Fault | Done


class _Malformed(Exception):
    """Whose file it was, and why."""

    def __init__(self, side: Side, detail: str) -> None:
        super().__init__(detail)
        self.side: Side = side
        self.detail = detail


def main() -> int:
    """Answer the request on standard input. Returns the exit code."""
    request = msgspec.json.decode(sys.stdin.buffer.read(REQUEST_BYTES_MAX), type=Request)
    if len(request.items) > SAMPLES_MAX:
        return 2
    limit(request)
    try:
        found = [_compare(request, item) for item in request.items]
    except _Malformed as error:
        _say(Fault(error.side, error.detail[:400]))
        return 0
    _say(Done(tuple(unit for unit, _ in found), tuple(error for _, error in found if error is not None)))
    return 0


def limit(request: Request) -> None:
    """Bound this process: memory by the largest file it will read, time, descriptors, what it writes."""
    names = [name for item in request.items for name in msgspec.structs.astuple(item)[1:] if name]
    largest = max((Path(name).stat().st_size for name in names), default=0)
    space = MEMORY_SPARE + MEMORY_TIMES * min(largest, STATE_BYTES_MAX)
    for kind, wanted in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, CPU_SECONDS * max(1, len(request.items))),
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_FSIZE, ANSWER_BYTES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError):  # A limit below what is in use already: the one before stays.
            resource.setrlimit(kind, (ceiling, ceiling))


def _compare(request: Request, item: Item) -> tuple[UnitScore, UnitError | None]:
    start = _read(item.start, "provider", item.index, is_finite=True)
    claimed = _read(item.claimed, "provider", item.index, is_finite=True)
    claimed_aux = _read(item.claimed_aux, "provider", item.index, is_finite=True)
    # An auditor's numbers may be infinite because the provider's state made them so: that is an error, and not a fault.
    replayed = _read(item.replayed, "auditor", item.index)
    replayed_aux = _read(item.replayed_aux, "auditor", item.index)
    _say(Turn("compare", item.index))
    try:
        found = comparing.compare(
            request.kind, start or {}, claimed, replayed, claimed_aux or {}, replayed_aux or {}, request.tolerance
        )
    except Refused as error:  # Parsed well, yet not to be compared: the parent finds out whose it is.
        raise _Malformed("compare", error.detail) from None
    unit = comparing.scored(item.index, found, request.tolerance)
    if not request.secret or request.kind != "training" or unit.score < score.ACCEPT:
        return unit, None
    return unit, _direction(start or {}, claimed or {}, replayed or {}, request.secret)


def _direction(start: Tensors, claimed: Tensors, replayed: Tensors, secret: bytes) -> UnitError | None:
    """Of a small error; None where there is no room to look, which is no reason to doubt the unit."""
    try:
        return drift.coded(drift.signed_error(start, claimed, replayed, secret))
    except MemoryError:
        return None


def _read(name: str, side: Side, index: int, *, is_finite: bool = False) -> dict[str, Array] | None:
    if not name:
        return None
    _say(Turn(side, index))
    with Path(name).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not 0 < size <= STATE_BYTES_MAX:
            raise _Malformed(side, f"a state of {size} bytes")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        found = decode(memoryview(mapped))
        if is_finite:
            check_finite(found, f"unit {index}")
    except Refused as error:
        raise _Malformed(side, error.detail) from None
    return found


def _say(word: Word) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
