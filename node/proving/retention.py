"""States that this node owes to auditors, judges and courts: kept until their verdict is final, however long ago the
run was, and across restarts.

A record names the blobs that came with one trace (or one replay). When it is released they go, except those that
another record names too. Spec: specs/31-units.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from node.blobs import BlobStore
from protocol.units import Digest

KEEP_SECONDS: Final = 14 * 86_400
"""A record that nobody released goes after two weeks: longer than three rounds of appeals, shorter than a full disk."""

_HASH_BYTES: Final = 32


class Retention:
    """Records are files in `folder`, named by the digest of their trace. Use from the store's thread."""

    def __init__(self, blobs: BlobStore, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._records: dict[Digest, frozenset[Digest]] = {}
        self._uses: Counter[Digest] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            data = path.read_bytes()
            if len(path.name) != 2 * _HASH_BYTES or len(data) % _HASH_BYTES:
                path.unlink()  # The node was killed while it wrote it.
                continue
            self._note(Digest(bytes.fromhex(path.name)), _digests(data))

    @property
    def bytes_kept(self) -> int:
        """Bytes on disk that records hold."""
        return sum(self._blobs.size(digest) for digest in self._uses if self._blobs.has(digest))

    def keeps(self, name: Digest) -> bool:
        """Whether there is a record of that trace."""
        return name in self._records

    def keep(self, name: Digest, made: Iterable[Digest]) -> None:
        """Hold these blobs under a name, besides what it holds already."""
        held = frozenset(made) | self._records.get(name, frozenset())
        self._forget(name)
        self._note(name, held)
        part = self._folder / f"{name.hex()}.part"
        part.write_bytes(b"".join(sorted(held)))
        part.replace(self._folder / name.hex())

    def release(self, name: Digest) -> None:
        """The verdict about it is final: remove what only this record names. Unknown: nothing happens."""
        held = self._records.get(name)
        if held is None:
            return
        self._forget(name)
        (self._folder / name.hex()).unlink(missing_ok=True)
        for digest in held:
            if not self._uses[digest]:
                self._blobs.remove(digest)

    def sweep(self, now_seconds: float) -> int:
        """Release what has been kept for KEEP_SECONDS; how many. `now_seconds` is wall-clock time."""
        old = [
            name
            for name in self._records
            if (path := self._folder / name.hex()).exists() and now_seconds - path.stat().st_mtime > KEEP_SECONDS
        ]
        for name in old:
            self.release(name)
        return len(old)

    def _note(self, name: Digest, held: frozenset[Digest]) -> None:
        self._records[name] = held
        self._uses.update(held)

    def _forget(self, name: Digest) -> None:
        for digest in self._records.pop(name, frozenset()):
            self._uses[digest] -= 1
            if not self._uses[digest]:
                del self._uses[digest]


def _digests(data: bytes) -> frozenset[Digest]:
    return frozenset(Digest(data[at : at + _HASH_BYTES]) for at in range(0, len(data), _HASH_BYTES))
