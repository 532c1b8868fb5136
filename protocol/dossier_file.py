"""The dossiers of one job in one file: a frame with the job's specification, then one frame for each decided claim.

A frame is its length in four bytes, big endian, and a canonical MessagePack map. Whoever has the file and the job's
receipt can check both without asking anybody (`shoal verify RECEIPT --units FILE`). Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol import wire
from protocol.audit_messages import ChunkIndex, Epoch
from protocol.dossier import DOSSIER_BYTES_MAX
from protocol.errors import Refused, RemoteViolation
from protocol.operations import Hash
from protocol.units import KIB, MIB, PeerId

SPEC_BYTES_MAX: Final = 16 * MIB
"""Bytes of an encoded specification."""

FRAME_BYTES_MAX: Final = SPEC_BYTES_MAX + 64 * KIB
"""The frame with the specification is the largest."""

_LENGTH: Final = 4
_NOBODY: Final = PeerId(bytes(32))


class OpenedJob(Struct, frozen=True, forbid_unknown_fields=True, tag="job"):
    """The first frame."""

    chain: Annotated[str, Meta(max_length=64)]
    escrow: Hash
    spec: Annotated[bytes, Meta(max_length=SPEC_BYTES_MAX)]
    """The encoded specification: what is drawn depends on it. The escrow names its digest."""


class OpenedClaim(Struct, frozen=True, forbid_unknown_fields=True, tag="claim"):
    """Each of the others."""

    chunk: ChunkIndex
    epoch: Epoch
    dossier: Annotated[bytes, Meta(max_length=DOSSIER_BYTES_MAX)] = b""
    """Encoded `protocol.dossier.Dossier`; empty where no validator gave one."""
    why: Annotated[str, Meta(max_length=512)] = ""
    """Why not."""


_decoder: Final[msgspec.msgpack.Decoder[OpenedJob | OpenedClaim]] = msgspec.msgpack.Decoder(OpenedJob | OpenedClaim)


def frame(item: OpenedJob | OpenedClaim) -> bytes:
    """One frame of a file."""
    body = wire.encode(item)
    return len(body).to_bytes(_LENGTH, "big") + body


def frames(read: Callable[[int], bytes]) -> Iterator[OpenedJob | OpenedClaim]:
    """What a file holds, frame by frame; `read` gives so many bytes, fewer only at the end.

    Raises `Refused` (`not_a_units_file`) for anything that is not written like one, or that ends in the midst."""
    number = 0
    while head := read(_LENGTH):
        size = int.from_bytes(head, "big")
        if len(head) != _LENGTH or not 0 < size <= FRAME_BYTES_MAX:
            raise _bad(f"frame {number} says that it has {size} bytes, {FRAME_BYTES_MAX} are the most")
        body = read(size)
        if len(body) != size:
            raise _bad(f"it ends in frame {number}, after {len(body)} of {size} bytes")
        try:
            item = wire.decode(body, _decoder, _NOBODY, FRAME_BYTES_MAX)
        except RemoteViolation as error:
            raise _bad(f"frame {number}: {error.rule}") from error
        if isinstance(item, OpenedJob) != (number == 0):
            raise _bad(f"frame {number} is that of a {'job' if isinstance(item, OpenedJob) else 'claim'}")
        yield item
        number += 1
    if not number:
        raise _bad("it is empty")


def _bad(what: str) -> Refused:
    fix = "Get it again with `shoal job evidence JOB --save FILE`."
    return Refused(f"this is no file of opened units: {what}", code="not_a_units_file", fix=fix)
