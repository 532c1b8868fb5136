"""Who holds which blob. Contents are kept only where a machine reads them; of the rest the size is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from protocol import wire
from protocol.errors import Unavailable
from protocol.jobspec import Manifest
from protocol.units import Digest

T = TypeVar("T")

_manifest_decoder = msgspec.msgpack.Decoder(Manifest)


class Library:
    """All blobs of the world, content-addressed; each peer holds some of them."""

    def __init__(self) -> None:
        self._sizes: dict[Digest, int] = {}
        self._contents: dict[Digest, bytes] = {}
        self._held: dict[int, set[Digest]] = {}
        self._holders: dict[Digest, dict[int, None]] = {}

    def put(self, peer: int, content: bytes) -> Digest:
        """A peer stores bytes. Returns their digest (BLAKE3)."""
        digest = wire.digest(content)
        self._contents[digest] = content
        self.hold(peer, digest, len(content))
        return digest

    def hold(self, peer: int, digest: Digest, size: int) -> None:
        """A peer has a blob of so many bytes, whose content nobody reads."""
        self._sizes[digest] = size
        self.copy(peer, digest)

    def copy(self, peer: int, digest: Digest) -> None:
        """A peer has received a blob whole."""
        self._held.setdefault(peer, set()).add(digest)
        self._holders.setdefault(digest, {})[peer] = None

    def drop(self, peer: int, digest: Digest) -> None:
        """A peer deletes its copy."""
        self._held.get(peer, set()).discard(digest)
        self._holders.get(digest, {}).pop(peer, None)

    def wipe(self, peer: int) -> None:
        """A peer's disk died: it holds nothing any more."""
        for digest in self._held.pop(peer, set()):
            del self._holders[digest][peer]

    def holders(self, digest: Digest) -> Iterable[int]:
        """Who holds a blob."""
        return self._holders.get(digest, ())

    def count(self, peer: int) -> int:
        """Blobs that a peer holds."""
        return len(self._held.get(peer, ()))

    def those(self, peer: int, named: Mapping[Digest, T]) -> list[T]:
        """What is said of the blobs that a peer holds, where anything is."""
        return [named[digest] for digest in self._held.get(peer, ()) if digest in named]

    def has(self, peer: int, digest: Digest) -> bool:
        """Whether the peer holds the blob."""
        held = self._held.get(peer)
        return held is not None and digest in held

    def read(self, peer: int, digest: Digest) -> bytes:
        """A blob's bytes, as its holder reads them. Raises `Unavailable`, as the node's store does."""
        if not self.has(peer, digest):
            raise Unavailable(f"no blob {digest.hex()[:16]} here", code="no_blob")
        return self._contents[digest]

    def size(self, digest: Digest) -> int:
        """Bytes of a blob that somebody put."""
        return self._sizes[digest]

    def files(self, digest: Digest) -> list[tuple[Digest, int]]:
        """(digest, bytes) of every file that an output manifest names."""
        content = self._contents.get(digest)
        if content is None:
            return []
        return [(Digest(file.digest), file.size) for file in _manifest_decoder.decode(content).files]
