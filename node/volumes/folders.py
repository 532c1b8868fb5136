"""From a folder to a tree, and from a tree to a folder, without ever following a link out of either.

Used by the command line for a renter's own folders and by a node for what a job left; imports neither trio nor libp2p.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.errors import Refused
from protocol.jobrules import path_problem
from protocol.jobspec import PATH_CHARS_MAX
from protocol.units import MIB
from storage import trees
from storage.trees import FOLDER_MODE, MODE_MAX, PLAIN_MODE, PROGRAM_MODE, File, Folder, Link, Piece, Tree

READ_BYTES: Final = 1 * MIB
"""Read at a time: memory stays flat on any file."""

PART_SUFFIX: Final = ".shoal-part"
"""A file that is being written; it gets its name when it is whole and right."""

PROGRAM_BITS: Final = 0o111

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_PART: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

ReadPiece = Callable[[int], bytes]
"""The content of a piece by its number, verified."""

Progress = Callable[[int], None]
"""Told how many more bytes are done."""


@dataclass(slots=True)
class Found:
    """One thing in a folder."""

    path: str
    mode: int
    size: int = 0
    target: str = ""
    """Where a link leads; empty for what is no link."""
    is_folder: bool = False
    digest: bytes = b""
    """Filled in while its content is read."""

    @property
    def is_file(self) -> bool:
        """Whether it has content."""
        return not self.is_folder and not self.target


# ── from a folder ────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Care:
    """How a folder is looked at."""

    is_plain: bool = False
    """Of the permissions only counts what is the same on every machine: whether a file is a program."""
    is_foreign: bool = False
    """A job left it: second names of a file are refused."""
    skipped: frozenset[str] = frozenset()
    """Names of folders that are left out."""


AS_IT_IS: Final = Care()


def listed(folder: Path, care: Care = AS_IT_IS) -> list[Found]:
    """Everything below a folder, in the order of a tree. Refused with the path for what a tree cannot hold."""
    found: list[Found] = []
    total = 0

    def failed(error: OSError) -> None:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}", code="file_unreadable", fix=_RIGHTS)

    for root, folders, files, fd in os.fwalk(folder, onerror=failed, follow_symlinks=False):
        base = Path(root).relative_to(folder).as_posix()
        prefix = "" if base == "." else base + "/"
        folders[:] = [name for name in folders if name not in care.skipped]
        for name in (*folders, *files):
            item = _found(prefix + name, name, fd, care)
            total += item.size
            found.append(item)
            trees.require_room(len(found), total)
    return sorted(found, key=lambda item: trees.order(item.path))


def named(folder: Path, names: Iterable[str], care: Care = AS_IT_IS) -> list[Found]:
    """The files and links of these names below a folder, and the folders that they are in."""
    wanted = set(names)
    for name in tuple(wanted):
        wanted.update(parent.as_posix() for parent in Path(name).parents if parent != Path())
    found: list[Found] = []
    total = 0
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in sorted(wanted, key=trees.order):
            item = _found(name, name, fd, care)
            total += item.size
            found.append(item)
            trees.require_room(len(found), total)
    finally:
        os.close(fd)
    return found


def contents(folder: Path, found: Iterable[Found]) -> Iterator[bytes]:
    """The bytes of all files, one behind the other; fills in their digests. Refused (`file_changed`) when one has
    another size than it was listed with."""
    for item in found:
        if item.is_file:
            yield from _content(folder / item.path, item)


def tree_of(found: Iterable[Found], pieces: Iterable[Piece]) -> Tree:
    """The list, once all contents were read. Checked."""
    entries: list[File | Folder | Link] = []
    for item in found:
        if item.is_folder:
            entries.append(Folder(item.path, item.mode))
        elif item.target:
            entries.append(Link(item.path, item.target))
        else:
            entries.append(File(item.path, item.mode, item.size, item.digest))
    tree = Tree(tuple(entries), tuple(pieces))
    trees.check(tree)
    return tree


def _found(path: str, name: str, fd: int, care: Care) -> Found:
    problem = path_problem(path)
    if not problem and len(path) > PATH_CHARS_MAX:
        problem = f"has more than {PATH_CHARS_MAX} characters"
    if problem:
        raise Refused(f"the path {ascii(path)[:200]} {problem}", code="bad_path", fix="Rename it, or leave it out.")
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    permissions = stat.S_IMODE(status.st_mode) & MODE_MAX
    if stat.S_ISDIR(status.st_mode):
        return Found(path, FOLDER_MODE if care.is_plain else permissions, is_folder=True)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(name, dir_fd=fd)
        if problem := trees.link_problem(path, target):
            raise trees.link_refusal(path, target, problem)
        return Found(path, 0, target=target)
    if not stat.S_ISREG(status.st_mode):
        fix = "Leave it out: only files, folders and links are kept."
        raise Refused(f"{path!r:.200} is a device, a pipe or a socket", code="bad_path", fix=fix)
    if care.is_foreign and status.st_nlink != 1:
        fix = "Write a copy instead of a hard link."
        raise Refused(f"{path!r:.200} has a second name (hard link)", code="bad_path", fix=fix)
    if care.is_plain:
        permissions = PROGRAM_MODE if permissions & PROGRAM_BITS else PLAIN_MODE
    return Found(path, permissions, status.st_size)


def _content(path: Path, item: Found) -> Iterator[bytes]:
    hasher = blake3()
    size = 0
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise Refused(f"{item.path} cannot be read: {error.strerror}", code="file_unreadable", fix=_RIGHTS) from error
    with os.fdopen(fd, "rb", buffering=0) as stream:
        while part := stream.read(READ_BYTES):
            size += len(part)
            if size > item.size:
                break
            hasher.update(part)
            yield part
    if size != item.size:
        detail = f"{item.path} changed while it was read: {item.size} bytes, then {size}"
        raise Refused(detail, code="file_changed", fix="Do it again when nobody writes to the folder.")
    item.digest = hasher.digest()


_RIGHTS: Final = "Check its permissions, or leave it out."


# ── to a folder ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Rights:
    """Permissions of what is laid out: as listed, or the same for all."""

    file: int | None = None
    program: int | None = None
    folder: int | None = None

    def of_file(self, mode: int) -> int:
        """For a file that is listed with `mode`."""
        chosen = self.program if mode & PROGRAM_BITS else self.file
        return mode if chosen is None else chosen


AS_LISTED: Final = Rights()
READ_ONLY: Final = Rights(0o444, 0o555, 0o755)
"""Of a tree that a sandbox only reads, whatever user it runs as."""
WRITABLE: Final = Rights(0o666, 0o777, 0o777)
"""Of a tree that a sandbox may change; nobody but it and the node can reach the folder."""


def lay_out(
    tree: Tree,
    folder: Path,
    read: ReadPiece,
    progress: Progress = lambda size: None,
    rights: Rights = AS_LISTED,
    below: str = "",
) -> int:
    """Make the tree's folders, files and links in `folder`, or only what is at and below one path; the bytes written.

    What is there already and equal stays and its pieces are not read, so an interrupted call goes on where it was.
    Refused (`in_the_way`, `volume_damaged`, `no_such_path`)."""
    wanted = {entry.path for entry in trees.subtree(tree, below)} | set(_above(below))
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    modes: list[tuple[Path, int]] = []
    for entry in tree.entries:
        if entry.path not in wanted:
            continue
        path = folder / entry.path
        match entry:
            case Folder(mode=mode):
                _make_folder(path, entry.path)
                modes.append((path, mode if rights.folder is None else rights.folder))
            case Link(target=target):
                _make_link(path, target)
            case File():
                pass
    for file, parts in trees.spans(tree):
        if file.path not in wanted:
            continue
        path = folder / file.path
        if not _is_there(path, file):
            _write(path, file, parts, read)
            written += file.size
        path.chmod(rights.of_file(file.mode))
        progress(file.size)
    for path, mode in reversed(modes):
        path.chmod(mode)
    return written


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _make_folder(path: Path, name: str) -> None:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        return
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise _in_the_way(name)
    if not os.access(path, os.W_OK | os.X_OK):
        path.chmod(0o700)  # An interrupted call left it with its final permissions.


def _make_link(path: Path, target: str) -> None:
    if path.is_symlink():
        if str(path.readlink()) == target:
            return
        path.unlink()
    try:
        path.symlink_to(target)
    except FileExistsError:
        raise _in_the_way(path.name) from None


def _is_there(path: Path, file: File) -> bool:
    try:
        fd = os.open(path, _OPEN)
    except OSError:
        return False
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
        os.close(fd)
        return False
    with os.fdopen(fd, "rb", buffering=0) as stream:
        hasher = blake3()
        while part := stream.read(READ_BYTES):
            hasher.update(part)
    return hasher.digest() == file.digest


def _write(path: Path, file: File, parts: Sequence[tuple[int, int, int]], read: ReadPiece) -> None:
    """Write beside the place, then rename. What an interrupted call left there is used again."""
    if path.is_dir() and not path.is_symlink():
        raise _in_the_way(file.path)
    beside = path.with_name(f".{blake3(path.name.encode()).hexdigest(8)}{PART_SUFFIX}")
    digest, is_resumed = _filled(beside, parts, read)
    if digest != file.digest and is_resumed:
        beside.unlink()
        digest, _ = _filled(beside, parts, read)
    if digest != file.digest:
        beside.unlink()
        fix = "The list and its pieces do not belong together: take another version."
        raise Refused(f"{file.path} came out with another content", code="volume_damaged", fix=fix)
    beside.replace(path)


def _filled(beside: Path, parts: Sequence[tuple[int, int, int]], read: ReadPiece) -> tuple[bytes, bool]:
    """(digest of the written file, whether part of it was there before)."""
    hasher = blake3()
    with os.fdopen(os.open(beside, _OPEN_PART, 0o600), "r+b") as stream:
        there = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        position = 0
        for number, offset, size in parts:
            if position + size <= there:
                hasher.update(stream.read(size))
            else:
                data = memoryview(read(number))[offset : offset + size]
                hasher.update(data)
                stream.seek(position)
                stream.write(data)
            position += size
        stream.truncate(position)
    return hasher.digest(), there > 0


def _in_the_way(name: str) -> Refused:
    fix = "Move it away, or choose another folder."
    return Refused(f"{name!r:.200} is there already and is something else", code="in_the_way", fix=fix)
