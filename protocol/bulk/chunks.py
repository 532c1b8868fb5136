"""Chunks: how a blob is cut, what its list of chunk digests says, and how both are asked for. Spec: specs/19-bulk.md.

Every source states the commitment of its list before it sends anything, so each can be held to its own words: a chunk
that does not fit is the lie of whoever sent it, a list that does not fit the blob the lie of whoever stated it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from blake3 import blake3
from msgspec import Meta, Struct, msgpack

from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import Bytes32
from protocol.units import MIB, Digest, PeerId

CHUNK_BYTES: Final = 1 * MIB
"""A chunk of most blobs: the unit of resuming, of checking and of sharing work between sources."""

CHUNK_BYTES_LARGE: Final = 4 * MIB
"""A chunk of a large blob: fewer requests, a shorter list."""

LARGE_BYTES: Final = 256 * MIB
"""Blobs of so many bytes and more are cut into large chunks. Fixed, so that all lists of a blob are the same."""

CHUNKS_MAX: Final = 262_144
"""1 TiB; the list has 8 MiB then."""

DIGEST_BYTES: Final = 32
"""BLAKE3."""

ABSENT_COMMITMENT: Final = bytes(DIGEST_BYTES)
"""What a description of a blob that is not here carries."""

_COMMITMENT: Final = "shoal bulk 1 chunk list"

Total = Annotated[int, Meta(ge=-1, le=2**62)]
Index = Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)]


class Describe(Struct, frozen=True, forbid_unknown_fields=True, tag="describe"):
    """How large is this blob, and what is its list's commitment?"""

    digest: Bytes32


class Description(Struct, frozen=True, forbid_unknown_fields=True, tag="description"):
    """The answer; total -1 = not here."""

    total: Total
    commitment: Bytes32


class WantList(Struct, frozen=True, forbid_unknown_fields=True, tag="want_list"):
    """Send the list of chunk digests, as data records."""

    digest: Bytes32


class Want(Struct, frozen=True, forbid_unknown_fields=True, tag="want"):
    """Send one chunk, as data records."""

    digest: Bytes32
    index: Index


class Wait(Struct, frozen=True, forbid_unknown_fields=True, tag="wait"):
    """Before a description: the blob is still being read for its list."""


class Sorry(Struct, frozen=True, forbid_unknown_fields=True, tag="sorry"):
    """Instead of data: it is gone, or cannot be read."""

    reason: Annotated[str, Meta(max_length=200)]


class Bye(Struct, frozen=True, forbid_unknown_fields=True, tag="bye"):
    """The last message of each side."""


Question = Describe | WantList | Want | Bye
Answer = Description | Wait | Sorry | Bye

question_decoder: Final[msgpack.Decoder[Question]] = msgpack.Decoder(Question)
answer_decoder: Final[msgpack.Decoder[Answer]] = msgpack.Decoder(Answer)


def chunk_bytes(total: int) -> int:
    """Bytes of all chunks but the last of a blob with `total` bytes."""
    return CHUNK_BYTES if total < LARGE_BYTES else CHUNK_BYTES_LARGE


def chunk_count(total: int) -> int:
    """How many chunks a blob has; an empty one has one, which is empty. Refused above `CHUNKS_MAX`.

    >>> chunk_count(0), chunk_count(CHUNK_BYTES), chunk_count(CHUNK_BYTES + 1)
    (1, 1, 2)
    """
    count = max(1, -(-total // chunk_bytes(total)))
    if count > CHUNKS_MAX:
        largest = CHUNKS_MAX * CHUNK_BYTES_LARGE
        raise Refused(
            f"a blob of {total} bytes is too large to be cut",
            code="blob_too_large",
            numbers={"size": total, "size_max": largest},
        )
    return count


@dataclass(frozen=True, slots=True)
class ChunkList:
    """The digests of all chunks of one blob."""

    total: int
    flat: bytes
    """32 bytes for each chunk, in order."""

    @classmethod
    def of_one(cls, total: int, digest: Digest) -> ChunkList:
        """The list of a blob that is one chunk, which everybody knows already."""
        return cls(total, bytes(digest))

    @classmethod
    def received(cls, total: int, flat: bytes, commitment: bytes, sender: PeerId) -> ChunkList:
        """A list as a source gave it. RemoteViolation when it is not the one that it had stated."""
        found = cls(total, flat)
        if len(flat) != DIGEST_BYTES * chunk_count(total) or found.commitment != commitment:
            raise RemoteViolation(sender, "its list of chunks is not the one that it stated", code="wrong_list")
        return found

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self.flat) // DIGEST_BYTES

    @property
    def commitment(self) -> bytes:
        """32 bytes that stand for the size and every digest."""
        return blake3(self.total.to_bytes(8, "big") + self.flat, derive_key_context=_COMMITMENT).digest()

    def offset(self, index: int) -> int:
        """Where a chunk begins within the blob, bytes."""
        return index * chunk_bytes(self.total)

    def size(self, index: int) -> int:
        """Bytes of a chunk."""
        return min(chunk_bytes(self.total), self.total - self.offset(index))

    def fits(self, index: int, data: memoryview) -> bool:
        """Whether these are the chunk's bytes."""
        wanted = self.flat[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        return len(data) == self.size(index) and blake3(data).digest() == wanted
