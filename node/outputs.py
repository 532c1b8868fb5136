"""What a job left in its output folder, taken without trusting a single name in it.

Only regular files with one name count. Everything is opened relative to a folder that is held open, and never through a
link, so that no trick with links, devices or pipes makes the node read its own files. Spec: specs/13-execution.md.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from node.blobs import BlobStore
from protocol import wire
from protocol.errors import Refused
from protocol.jobspec import FILES_MAX, PATH_CHARS_MAX, Manifest, OutputFile
from protocol.units import KIB, Digest

DEPTH_MAX: Final = 32
"""Folders below each other in /out; a job that builds deeper trees builds them to hurt."""

SMALL_BYTES: Final = 64 * KIB
"""Files up to this size are read at once, which is quicker than a thread."""

ENTRIES_MAX: Final = 65_536
"""Files and folders that a task may have on disk at one time: a bound for the inodes of the host."""

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


async def collect(folder: Path, blobs: BlobStore, bytes_max: int, without: str = "") -> tuple[Digest, int]:
    """(digest of the manifest blob, bytes of all files). Refused (`output`, `disk`) when the folder is unfit.

    Every process of the task must be dead. `without` names a folder at the top that is left out."""
    found: list[OutputFile] = []
    total = 0
    for root, folders, names, folder_fd in os.fwalk(folder, follow_symlinks=False):
        relative = Path(root).relative_to(folder)
        if without and not relative.parts and without in folders:
            folders.remove(without)
        if len(relative.parts) >= DEPTH_MAX:
            raise Refused(f"the output has folders more than {DEPTH_MAX} deep", code="output")
        for name in folders:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
                raise _unacceptable(str(relative / name), "is a symbolic link")
        for name in names:
            path = output_path(str(relative / name))
            fd = open_plain(name, folder_fd, path)
            try:
                size = os.fstat(fd).st_size
                total += size
                if total > bytes_max or len(found) >= FILES_MAX:
                    raise _over(total, bytes_max, len(found) + 1)
                found.append(OutputFile(path, await _keep(blobs, fd, size), size))
            finally:
                os.close(fd)
    manifest = Manifest(tuple(sorted(found, key=lambda file: file.path)))
    return blobs.put(wire.encode(manifest)), total


def open_plain(name: str, folder_fd: int, path: str) -> int:
    """A descriptor of a regular file with one name in an open folder; Refused (`output`) with `path` otherwise."""
    try:
        fd = os.open(name, _OPEN, dir_fd=folder_fd)
    except OSError as error:
        raise _unacceptable(path, f"cannot be read as a regular file ({error.strerror})") from error
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return fd
    os.close(fd)
    raise _unacceptable(
        path, "is not a regular file" if not stat.S_ISREG(status.st_mode) else "has a second name (hard link)"
    )


def output_path(path: str) -> str:
    """The path itself when it is one that every machine can hold; Refused (`output`) otherwise."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _unacceptable(ascii(path), "has a name that is not UTF-8") from None
    if len(path) > PATH_CHARS_MAX or not path.isprintable() or "\\" in path:
        raise _unacceptable(ascii(path[:80]), "has a name that is too long or holds control characters or backslashes")
    return path


def input_path(path: str) -> Path:
    """A relative path below /in; Refused (`inputs`) when it is absolute, leaves the folder or is not plain."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not path.isprintable() or "\\" in path:
        raise Refused(
            f"{path[:80]!r} is no path for an input",
            code="inputs",
            fix="Use relative paths such as data/a.bin, without '..' and control characters.",
        )
    return Path(*parts)


def usage(folder: Path) -> tuple[int, int]:
    """(bytes on disk, entries) below a folder, whatever a running task does to it meanwhile."""
    used = entries = 0
    queue = [folder]
    while queue and entries <= ENTRIES_MAX:
        try:
            with os.scandir(queue.pop()) as listing:
                for entry in listing:
                    entries += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(Path(entry.path))
        except OSError:
            continue
    return used, entries


async def _keep(blobs: BlobStore, fd: int, size: int) -> Digest:
    if size <= SMALL_BYTES:
        data = os.pread(fd, size, 0)
        return blobs.put(data)
    digest, _ = await blobs.put_file(Path(f"/dev/fd/{fd}"))
    return digest


def _unacceptable(path: str, why: str) -> Refused:
    return Refused(
        f"output {path} {why}",
        code="output",
        fix="Leave only regular files with plain names in $SHOAL_OUT; use tar for anything else.",
    )


def _over(total: int, bytes_max: int, files: int) -> Refused:
    return Refused(
        f"the output has {total} bytes in {files} files; {bytes_max} bytes and {FILES_MAX} files are allowed",
        code="disk",
        fix="Raise resources.disk, or pack small files into one.",
        numbers={"bytes": total, "bytes_max": bytes_max, "files": files, "files_max": FILES_MAX},
    )
