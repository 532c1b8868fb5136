"""Copies of the folders that a job writes to, taken while it stands still, and laid out again before it is restored.

The job's names are hostile: everything is opened relative to an open folder and never through a link. A file is shared
with its copy where the file system can (FICLONE), else copied. Only files, folders and symbolic links are taken.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from blake3 import blake3
from msgspec import Meta, Struct

from node.outputs import DEPTH_MAX, ENTRIES_MAX
from protocol.errors import Refused
from protocol.units import MIB

FICLONE: Final = 0x4004_9409
"""linux/fs.h: share the blocks of another file (btrfs, XFS, bcachefs); EOPNOTSUPP elsewhere."""

COPY_BYTES: Final = 8 * MIB
"""One call of sendfile, and one piece that is hashed."""

PATH_CHARS: Final = 500
"""A part of a snapshot has a name of at most 512 characters (storage.cutting)."""

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One file, folder or link. `path` begins with the name of its folder (`out`, `tmp`, …)."""

    path: Annotated[str, Meta(min_length=1, max_length=PATH_CHARS)]
    kind: Literal["file", "folder", "link"]
    mode: Annotated[int, Meta(ge=0, le=0o7777)] = 0o644
    changed_ns: Annotated[int, Meta(ge=0, le=2**62)] = 0
    size: Annotated[int, Meta(ge=0, le=2**50)] = 0
    digest: Annotated[bytes, Meta(max_length=32)] = b""
    """BLAKE3 of a file's content."""
    target: Annotated[str, Meta(max_length=4_096)] = ""
    """What a link says."""


def copy(sources: Mapping[str, Path], target: Path, bytes_max: int) -> tuple[Entry, ...]:
    """Copy folders to `target/<name>`; the table has no digests yet. Refused (`snapshot_too_large`). Blocks."""
    found: list[Entry] = []
    total = 0
    for name, source in sources.items():
        for entry, parent, leaf in _walk(name, source):
            found.append(entry)
            total += entry.size
            if total > bytes_max or len(found) > ENTRIES_MAX:
                raise Refused(f"the job's files exceed {bytes_max} bytes", code="snapshot_too_large")
            path = target / entry.path
            if entry.kind == "folder":
                path.mkdir(parents=True)
            elif entry.kind == "file":
                _copy_file(parent, leaf, path)
    return tuple(found)


def digests(entries: tuple[Entry, ...], folder: Path) -> tuple[Entry, ...]:
    """The table with the digest of every copied file: done when the job runs again. Blocks."""
    return tuple(_with(entry, digest=digest_of(folder / entry.path)) for entry in entries)


def digest_of(path: Path) -> bytes:
    """BLAKE3 of a file, 32 bytes; empty for what is no file."""
    if path.is_symlink() or not path.is_file():
        return b""
    return blake3().update_mmap(path).digest()


def lay_out(entries: tuple[Entry, ...], source: Path, target: Path, uid: int) -> None:
    """Put the copied files where the sandbox will show them, as the job's own. Refused (`bad_image`). Blocks.

    `target` is a task's folder; what is in the wanted folders already is an error of the caller."""
    for entry in entries:
        check_path(entry.path)
        path = target / entry.path
        if _is_through_a_link(path.parent, target):
            raise Refused(f"{entry.path[:80]!r} leads through a link", code="bad_image")
        match entry.kind:
            case "folder" if path.is_dir() and not path.is_symlink():
                pass
            case "folder":
                path.mkdir()
            case "link":
                path.symlink_to(entry.target)
            case "file":
                _copy_file(None, str(source / entry.path), path)
        os.chown(path, uid, uid, follow_symlinks=False)
        if entry.kind != "link":
            path.chmod(entry.mode)
    for entry in reversed(entries):  # A folder's own time changes with what is put into it.
        if entry.kind != "link":
            os.utime(target / entry.path, ns=(entry.changed_ns, entry.changed_ns))


def check_path(path: str) -> None:
    """Refused (`bad_image`) unless a path is relative, plain and not too deep."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts) or len(parts) > DEPTH_MAX + 1:
        raise Refused(f"{path[:80]!r} is no path inside a snapshot", code="bad_image")


def _walk(name: str, source: Path) -> Iterator[tuple[Entry, int, str]]:
    """(entry, descriptor of its folder, its name in there), parents first."""
    for root, folders, names, fd in os.fwalk(source, follow_symlinks=False):
        inner = os.path.relpath(root, source)
        top = name if inner == "." else f"{name}/{inner}"
        if top.count("/") >= DEPTH_MAX:
            raise Refused(f"the job has folders more than {DEPTH_MAX} deep", code="snapshot_too_large")
        yield _entry(top, os.fstat(fd), ""), fd, "."
        for leaf in [*names, *folders]:
            status = os.stat(leaf, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield _entry(f"{top}/{leaf}", status, ""), fd, leaf
            elif stat.S_ISLNK(status.st_mode):
                yield _entry(f"{top}/{leaf}", status, os.readlink(leaf, dir_fd=fd)), fd, leaf


def _entry(path: str, status: os.stat_result, target: str) -> Entry:
    is_file, is_link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
    return Entry(
        path=path,
        kind="file" if is_file else "link" if is_link else "folder",
        mode=stat.S_IMODE(status.st_mode),
        changed_ns=max(0, status.st_mtime_ns),
        size=status.st_size if is_file else 0,
        target=target,
    )


def _with(entry: Entry, *, digest: bytes) -> Entry:
    return Entry(entry.path, entry.kind, entry.mode, entry.changed_ns, entry.size, digest, entry.target)


def _copy_file(parent: int | None, leaf: str, target: Path) -> None:
    source = os.open(leaf, _READ, dir_fd=parent)
    try:
        copy_fd = os.open(target, _WRITE, 0o600)
        try:
            try:
                fcntl.ioctl(copy_fd, FICLONE, source)
            except OSError:
                while os.sendfile(copy_fd, source, None, COPY_BYTES):
                    pass
        finally:
            os.close(copy_fd)
    finally:
        os.close(source)


def _is_through_a_link(folder: Path, top: Path) -> bool:
    return any(path.is_symlink() for path in (folder, *folder.parents) if path.is_relative_to(top) and path != top)
