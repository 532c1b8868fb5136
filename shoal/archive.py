"""A job's folder as one tar archive, packed the same everywhere and unpacked with suspicion.

Packing is deterministic: sorted names, no owners, no times. Unpacking takes regular files and folders only, inside the
target, within bounds, and leaves nothing behind when it refuses.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from protocol.errors import Refused
from protocol.jobrules import path_problem
from protocol.jobspec import FILES_MAX, PATH_CHARS_MAX

ARCHIVE_BYTES_MAX: Final = 256 << 20
"""Content of all files together: a job folder is sources and small data; large inputs travel as blobs."""

FOLDERS_MAX: Final = FILES_MAX
"""Folders beside the files: each costs an inode."""

HEADERS_BYTES_MAX: Final = 4 << 20
"""Tar headers beside the content: 512 bytes for each of the files and folders, and long names."""

COPY_BYTES: Final = 1 << 20
"""Piece size for copying: memory stays flat on any file."""


def refused(detail: str, fix: str, code: str = "bad_archive", **numbers: int | str) -> Refused:
    """The refusal of an archive; `numbers` says what disagreed."""
    return Refused(detail, code=code, fix=fix, numbers=dict(numbers))


def pack(files: Iterable[tuple[str, Path]]) -> bytes:
    """A tar of (path in the archive, local file); the same files give the same bytes. `Refused` as for unpacking."""
    out = io.BytesIO()
    total = count = 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, source in sorted(files):
            _check_name(name)
            size = source.stat().st_size
            total, count = total + size, count + 1
            _check_bounds(total, count, 0)
            entry = tarfile.TarInfo(name)
            entry.size = size
            entry.mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
            with source.open("rb") as stream:
                archive.addfile(entry, stream)
    return out.getvalue()


def unpack(data: bytes, folder: Path) -> tuple[str, ...]:
    """Write an archive's files into `folder`, which must not exist; the paths written, sorted.

    The archive may be gzipped. `Refused` (`bad_archive`, `bad_path`, `over_limit`) removes what was written so far.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=_plain(data), mode="r:") as archive:
            return _unpacked(archive, folder)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        shutil.rmtree(folder)
        raise refused(f"not a tar archive: {error}", "Pack the folder with `tar -cf job.tar -C folder .`.") from error
    except (Refused, OSError):
        shutil.rmtree(folder)
        raise


def _plain(data: bytes) -> IO[bytes]:
    """The tar itself; a gzipped one is opened up to the bound, so that a bomb costs no more than an honest archive."""
    if not data.startswith(b"\x1f\x8b"):
        return io.BytesIO(data)
    bound = ARCHIVE_BYTES_MAX + HEADERS_BYTES_MAX
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            plain = stream.read(bound + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise refused(f"damaged gzip: {error}", "Pack the folder again.") from error
    if len(plain) > bound:
        fix = "Send large inputs as blobs, not in the archive."
        raise refused(f"more than {bound} bytes when unpacked", fix, code="over_limit", limit=bound)
    return io.BytesIO(plain)


def _unpacked(archive: tarfile.TarFile, folder: Path) -> tuple[str, ...]:
    total = folders = 0
    written: list[str] = []
    for entry in archive:
        name = entry.name.removeprefix("./").rstrip("/")
        if entry.isdir() and name in ("", "."):
            continue
        _check_name(name)
        _check_kind(entry)
        if entry.isdir():
            folders += 1
            _check_bounds(total, len(written), folders)
            _make_folder(folder / name, name)
            continue
        total += entry.size
        _check_bounds(total, len(written) + 1, folders)
        _make_folder((folder / name).parent, name)
        _copy(archive, entry, folder / name)
        written.append(name)
    return tuple(sorted(written))


def _copy(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(entry)
    try:
        with target.open("xb") as out:
            if source is not None:
                shutil.copyfileobj(source, out, COPY_BYTES)
    except FileExistsError:
        raise refused(f"{entry.name!r:.200} is there twice", "Pack every file once.") from None
    if target.stat().st_size != entry.size:
        detail = f"{entry.name!r:.200} has {target.stat().st_size} bytes, its header says {entry.size}"
        raise refused(
            detail, "The archive is cut off: send it again.", expected=entry.size, found=target.stat().st_size
        )
    target.chmod(0o755 if entry.mode & 0o100 else 0o644)


def _make_folder(path: Path, name: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise refused(f"{name!r:.200} is a file and a folder at once", "Rename one of them.") from None


def _check_name(name: str) -> None:
    problem = path_problem(name) or (f"has more than {PATH_CHARS_MAX} characters" if len(name) > PATH_CHARS_MAX else "")
    if problem:
        raise refused(
            f"the path {name!r:.200} {problem}", "Use relative paths without `..`.", code="bad_path", path=name[:200]
        )


def _check_kind(entry: tarfile.TarInfo) -> None:
    if entry.issym() or entry.islnk():
        raise refused(
            f"{entry.name!r:.200} is a link", "Pack with `tar --dereference`.", code="bad_path", path=entry.name[:200]
        )
    if not (entry.isreg() or entry.isdir()) or entry.issparse():
        fix = "Pack regular files and folders only."
        raise refused(f"{entry.name!r:.200} is no regular file", fix, code="bad_path", path=entry.name[:200])


def _check_bounds(total: int, count: int, folders: int) -> None:
    if total > ARCHIVE_BYTES_MAX:
        detail = f"{total} bytes of files, at most {ARCHIVE_BYTES_MAX} are taken"
        fix = "Send large inputs as blobs, not in the archive."
        raise refused(detail, fix, code="over_limit", found=total, limit=ARCHIVE_BYTES_MAX)
    if count > FILES_MAX or folders > FOLDERS_MAX:
        detail = f"{count} files and {folders} folders, at most {FILES_MAX} of each are taken"
        raise refused(
            detail, "Pack small files into one.", code="over_limit", found=max(count, folders), limit=FILES_MAX
        )
