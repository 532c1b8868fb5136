"""From the parts of a snapshot to packs of shards, and back: the two doors. Spec: specs/26-shards.md.

    parts -> chunks -> ids -> known ones left out -> shuffle and zstd -> records -> packs -> shards with digests

Sealing reads every part twice and keeps one pack in memory. Opening believes nothing: an index is checked before it is
followed, every record authenticates its place, and every chunk must have its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from protocol.snapshots import Pack
from storage.cutting import Part
from storage.erasure import Code, ErasureCode
from storage.ids import Place
from storage.index import STATE_BYTES_MAX
from storage.opening import Opening, ReadPack
from storage.packs import Known
from storage.sealing import Options, Sealing

__all__ = ["Known", "Opening", "Options", "Part", "Place", "Sealing", "open_sealed", "seal"]

USUAL: Final = Options()
"""AES, every byte dear, one thread."""


def seal(
    parts: Iterable[Part],
    place: Place,
    secret: bytes,
    code: Code,
    erasure: ErasureCode,
    known: Known | None = None,
    options: Options = USUAL,
) -> Sealing:
    """Begin to seal; the work is done while the result is iterated, pack by pack, and `sealed` says the rest.

    Refused (`bad_part_name`, `too_many_parts`) at once, `snapshot_too_large` while iterating."""
    return Sealing(parts, place, secret, (code, erasure), known, options)


def open_sealed(
    packs: Sequence[Pack],
    index_bytes: int,
    place: Place,
    secret: bytes,
    read_pack: ReadPack,
    size_max: int = STATE_BYTES_MAX,
) -> Iterator[Part]:
    """The parts of a snapshot as they were sealed. `Opening` gives them in pieces, for what is too large for memory.

    Refused (`snapshot_damaged`, `snapshot_too_large`, `bad_part_name`, `bad_pack`) before or while they come."""
    return Opening(packs, index_bytes, place, secret, read_pack, size_max).whole()
