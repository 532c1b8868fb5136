"""From the parts of a snapshot to packs of shards, and back. Spec: specs/26-shards.md.

    parts -> chunks -> ids -> known ones left out -> shuffle and zstd -> records -> packs -> shards with digests

Sealing reads every part twice and keeps one pack in memory. Opening believes nothing: an index is checked before it is
followed, a record authenticates its place, and every chunk must have its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from protocol.errors import LocalError
from protocol.snapshots import PACKS_MAX, Pack
from storage import compress, cutting, records
from storage.cutting import Cut, Part
from storage.erasure import Code, ErasureCode
from storage.ids import Place, chunk_id, id_key
from storage.index import (
    CHUNKS_MAX,
    HEADER_BYTES,
    INDEX_BYTES_MAX,
    PAD_BYTES,
    RAW,
    STATE_BYTES_MAX,
    ZSTD,
    Index,
    Origin,
    PartEntry,
    StoredChunk,
    check_index,
    chunk_aead,
    open_index,
    seal_index,
    too_large,
)
from storage.packs import (
    HIT_PERCENT_LEAST,
    PACK_BYTES_MAX,
    Known,
    KnownPack,
    PackWriter,
    SealedPack,
    worth_keeping,
)
from storage.records import CipherName, damaged, sealed_size

BATCH: Final = 16
"""Chunks that are compressed at once: 64 MiB at most wait for their turn."""

ENTRY_BYTES_MAX: Final = 96
"""Of an index, per chunk or part, names not counted."""

A = TypeVar("A")
B = TypeVar("B")
A_in = TypeVar("A_in", contravariant=True)


class Apply(Protocol):
    """How the same is done to many chunks: one after the other, or by the threads of whoever has some."""

    def __call__(self, function: Callable[[A], B], items: Sequence[A], /) -> Iterable[B]: ...


def in_turn(function: Callable[[A], B], items: Sequence[A], /) -> Iterable[B]:
    """One after the other."""
    return map(function, items)


@dataclass(frozen=True, slots=True)
class Options:
    """How a snapshot is sealed."""

    cipher: CipherName = "aes-256-gcm"
    """ChaCha20-Poly1305 where the processor has no AES."""
    uplink_bytes_per_s: int | None = None
    """Where it will go; without, bytes are dear."""
    apply: Apply = in_turn


def seal(
    parts: Iterable[Part],
    place: Place,
    secret: bytes,
    code: Code,
    erasure: ErasureCode,
    known: Known | None = None,
    options: Options = Options(),  # noqa: B008 (frozen)
) -> Sealing:
    """Begin to seal; the work is done while the result is iterated. A place is used once.

    Refused (`bad_part_name`, `too_many_parts`, `snapshot_too_large`)."""
    return Sealing(cutting.in_order(parts), place, secret, (code, erasure), known, options)
