"""A tree: folders, files and links under relative paths, immutable, named by the digest of its list.

The contents of its files, one behind the other in the order of the list, are one stream that is cut into pieces
(`storage.pieces`); the list names the pieces. So a hundred thousand small files are a few blobs, and two trees that
are alike share most of theirs. Spec: specs/29-volumes.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.jobrules import path_problem
from protocol.jobspec import PATH_CHARS_MAX, Bytes32, NonNegative, Path
from protocol.units import GIB, MIB, Digest, PeerId
from storage.pieces import PIECE_BYTES_MAX

ENTRIES_MAX: Final = 100_000
"""Files, folders and links of one tree: each costs an inode wherever it is laid out."""

PIECES_MAX: Final = 65_536
"""Pieces of one tree: 64 GiB at their mean size."""

TREE_BYTES_MAX: Final = 64 * MIB
"""Bytes of an encoded list: the most entries with paths of 500 bytes."""

CONTENT_BYTES_MAX: Final = 64 * GIB
"""Bytes of all files of a tree."""

MODE_MAX: Final = 0o777
"""Permissions; set-user-id and the like are never kept."""

PLAIN_MODE: Final = 0o644
PROGRAM_MODE: Final = 0o755
FOLDER_MODE: Final = 0o755

LINK_CHARS_MAX: Final = PATH_CHARS_MAX

Mode = Annotated[int, Meta(ge=0, le=MODE_MAX)]
Target = Annotated[str, Meta(min_length=1, max_length=LINK_CHARS_MAX)]


class File(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="f"):
    """A regular file."""

    path: Path
    mode: Mode
    size: NonNegative
    digest: Bytes32
    """BLAKE3 of its content, so that a copy that is there already is recognised."""


class Folder(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="d"):
    """A folder; every folder is listed, empty or not."""

    path: Path
    mode: Mode


class Link(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="l"):
    """A symbolic link that leads to a place within the tree, whether something is there or not."""

    path: Path
    target: Target


class Piece(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A run of the tree's content: one blob."""

    digest: Bytes32
    size: Annotated[int, Meta(ge=1, le=PIECE_BYTES_MAX)]


Entry = File | Folder | Link


class Tree(Struct, frozen=True, forbid_unknown_fields=True, tag="tree"):
    """The list. The digest of its encoding names the tree."""

    entries: Annotated[tuple[Entry, ...], Meta(max_length=ENTRIES_MAX)]
    """Sorted by the parts of their paths."""
    pieces: Annotated[tuple[Piece, ...], Meta(max_length=PIECES_MAX)]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(piece.size for piece in self.pieces)

    @property
    def files(self) -> tuple[File, ...]:
        """The regular files, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, File))


EMPTY: Final = Tree((), ())

_decoder: Final = wire.decoder(Tree)
_NOBODY: Final = PeerId(bytes(32))


def order(path: str) -> tuple[str, ...]:
    """The sort key of a path: a folder stands before what is in it, and nothing else in between."""
    return tuple(path.split("/"))


def encode(tree: Tree) -> bytes:
    """The list as a blob. Refused (`over_limit`) when it is too large."""
    data = wire.encode(tree)
    if len(data) > TREE_BYTES_MAX:
        raise _over("bytes of names", len(data), TREE_BYTES_MAX)
    return data


def decode(data: bytes) -> Tree:
    """A list that somebody sent, checked. Refused: `bad_tree`, `bad_path`, `link_escapes` or `over_limit`."""
    try:
        tree = wire.decode(data, _decoder, _NOBODY, TREE_BYTES_MAX)
    except RemoteViolation as error:
        raise Refused(f"this is no tree: {error.rule}", code="bad_tree", fix="Make the tree again.") from error
    check(tree)
    return tree


def check(tree: Tree) -> None:
    """Refuse a list that breaks a rule: order, paths, parents, links, sizes."""
    folders: set[str] = set()
    previous: tuple[str, ...] = ()
    for entry in tree.entries:
        key = order(entry.path)
        if problem := path_problem(entry.path):
            raise Refused(f"{entry.path!r:.200} {problem}", code="bad_path", fix="Rename it.")
        if key <= previous:
            raise Refused(f"{entry.path!r:.200} is out of order, or there twice", code="bad_tree")
        previous = key
        parent = entry.path.rpartition("/")[0]
        if parent and parent not in folders:
            raise Refused(f"{entry.path!r:.200} lies in no folder of the tree", code="bad_tree")
        match entry:
            case Folder(path=path):
                folders.add(path)
            case Link(path=path, target=target):
                if problem := link_problem(path, target):
                    raise link_refusal(path, target, problem)
            case File():
                pass
    size = sum(file.size for file in tree.files)
    if size != tree.size:
        detail = f"the files have {size} bytes, the pieces {tree.size}"
        raise Refused(detail, code="bad_tree", numbers={"files": size, "pieces": tree.size})
    if size > CONTENT_BYTES_MAX:
        raise _over("bytes of files", size, CONTENT_BYTES_MAX)


def link_problem(path: str, target: str) -> str:
    """Why a link at `path` could lead out of its tree; empty when it cannot.

    `..` may only stand at the front: behind a name it would depend on where other links lead.

    >>> link_problem("a/b", "../c"), link_problem("a/b", "../../c")
    ('', 'leads out of the tree')
    """
    if target.startswith("/"):
        return "is absolute"
    if "\\" in target or not target.isprintable():
        return "has a backslash or a control character"
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[ups:]:
        return "goes up again behind a name"
    return "leads out of the tree" if ups > path.count("/") else ""


def link_refusal(path: str, target: str, problem: str) -> Refused:
    """The refusal of a link."""
    fix = "Remove the link, or put a copy of what it leads to in its place."
    return Refused(f"{path!r:.200} is a link to {target!r:.200}, which {problem}", code="link_escapes", fix=fix)


def spans(tree: Tree) -> Iterator[tuple[File, tuple[tuple[int, int, int], ...]]]:
    """Every file with the parts of pieces that it is made of: (number of the piece, offset in it, bytes)."""
    number = offset = 0
    for file in tree.files:
        left = file.size
        parts: list[tuple[int, int, int]] = []
        while left:
            take = min(left, tree.pieces[number].size - offset)
            parts.append((number, offset, take))
            left -= take
            offset += take
            if offset == tree.pieces[number].size:
                number, offset = number + 1, 0
        yield file, tuple(parts)


def piece_digests(tree: Tree) -> tuple[Digest, ...]:
    """The blobs of a tree's content, each once, in order."""
    return tuple(dict.fromkeys(Digest(piece.digest) for piece in tree.pieces))


def require_room(entries: int, size: int) -> None:
    """Refuse what would not fit a tree, with the numbers."""
    if entries > ENTRIES_MAX:
        raise _over("files, folders and links", entries, ENTRIES_MAX)
    if size > CONTENT_BYTES_MAX:
        raise _over("bytes of files", size, CONTENT_BYTES_MAX)


def subtree(tree: Tree, path: str) -> Sequence[Entry]:
    """The entries at and below a path; all for ''. Refused (`no_such_path`) when there is nothing."""
    if not path:
        return tree.entries
    found = [entry for entry in tree.entries if entry.path == path or entry.path.startswith(path + "/")]
    if not found:
        raise Refused(
            f"the tree has no {path!r:.200}", code="no_such_path", fix="`shoal volume ls` shows what is there."
        )
    return found


def _over(what: str, found: int, limit: int) -> Refused:
    fix = "Leave out what is not needed, pack small files into one, or use several volumes."
    numbers: dict[str, int | str] = {"found": found, "limit": limit}
    return Refused(f"{found} {what}, a tree holds {limit}", code="over_limit", fix=fix, numbers=numbers)
