"""Folders into volumes and out of them: what the other side has is not sent, what is here is not fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from node.volumes import folders
from protocol.errors import Refused
from protocol.units import MIB
from shoal.session import ServerFault
from shoal.volume_line import Plain, VolumeLine, number_of, text_of, version_of
from storage import pieces, trees
from storage.trees import Piece, Tree

BATCH_BYTES: Final = 32 * MIB
"""Of pieces that one question is about: they wait in memory for the answer."""

Progress = Callable[[int, int, int], None]
"""(bytes done, bytes in all, bytes moved)."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer came to."""

    version: Plain
    size: int
    """Bytes of all files."""
    moved: int
    """Bytes that were sent or fetched."""
    entries: int


def put(line: VolumeLine, name: str, folder: Path, snapshot: str, progress: Progress) -> Moved:
    """Make a folder the newest version. Interrupted, it goes on where it was when it is called again."""
    if not folder.is_dir():
        fix = "Give a folder; a single file goes into one first."
        raise Refused(f"{folder} is no folder", code="file_missing", fix=fix)
    found = folders.listed(folder)
    total = sum(item.size for item in found)
    made: list[Piece] = []
    waiting: list[bytes] = []
    moved = done = 0
    for data in pieces.pieces(folders.contents(folder, found)):
        waiting.append(data)
        made.append(Piece(blake3(data).digest(), len(data)))
        done += len(data)
        if sum(map(len, waiting)) >= BATCH_BYTES:
            moved += _send(line, waiting)
            waiting.clear()
            progress(done, total, moved)
    moved += _send(line, waiting)
    progress(done, total, moved)
    tree = folders.tree_of(found, made)
    data = trees.encode(tree)
    moved += _send(line, [data])
    answer = line.ask("commit", name=name, tree=blake3(data).hexdigest(), snapshot=snapshot)
    return Moved(version_of(answer), total, moved, len(found))


def get(line: VolumeLine, name: str, which: str, folder: Path, below: str, progress: Progress) -> Moved:
    """Lay a version out in a folder, or only what is below one path of it."""
    version = opened(line, name, which)
    tree = listed(line, version)
    below = below.strip("/")
    total = sum(entry.size for entry in trees.subtree(tree, below) if isinstance(entry, trees.File))
    fetcher = _Fetcher(line, tree)
    done = 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total, fetcher.moved)

    folders.lay_out(tree, folder, fetcher.read, step, below=below)
    return Moved(version, total, fetcher.moved, len(tree.entries))


def opened(line: VolumeLine, name: str, which: str) -> Plain:
    """A version whose content the other side has at hand."""
    last: Plain = {}
    for item in line.opened(name, which):
        last = item
    return version_of(last)


def listed(line: VolumeLine, version: Plain) -> Tree:
    """The list of a version, checked."""
    digest = text_of(version, "tree")
    data = line.get(digest)
    if len(data) != number_of(version, "tree_bytes"):
        raise _wrong("the version's list")
    if blake3(data).hexdigest() != digest:
        raise _wrong("the version's list")
    return trees.decode(data)


class _Fetcher:
    """Pieces by number; the last one is kept, for its end belongs to the next file."""

    def __init__(self, line: VolumeLine, tree: Tree) -> None:
        self._line = line
        self._tree = tree
        self._last = (-1, b"")
        self.moved = 0

    def read(self, number: int) -> bytes:
        if self._last[0] != number:
            piece = self._tree.pieces[number]
            data = self._line.get(piece.digest.hex())
            if blake3(data).digest() != piece.digest:
                raise _wrong(f"piece {number}")
            self._last = number, data
            self.moved += len(data)
        return self._last[1]


def _send(line: VolumeLine, waiting: Sequence[bytes]) -> int:
    """Upload what the other side lacks; bytes sent."""
    by_name = {blake3(data).hexdigest(): data for data in waiting}
    if not by_name:
        return 0
    missing = line.ask("missing", digests=list(by_name)).get("missing")
    if not isinstance(missing, list):
        raise ServerFault("the answer does not say what is missing", code="bad_answer")
    sent = 0
    for name in by_name:
        if name in missing:
            if line.put(by_name[name]) != name:
                raise _wrong("an uploaded piece")
            sent += len(by_name[name])
    return sent


def _wrong(what: str) -> ServerFault:
    fix = "Try again; if it stays so, the disk or the other side is broken."
    return ServerFault(f"{what} has another digest there than here", code="digest_differs", fix=fix)
