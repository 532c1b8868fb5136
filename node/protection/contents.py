"""What a snapshot holds: the files of a folder as named parts, and the files back from the parts.

Both ends distrust: a folder is written by a job, parts come from another provider's job. Names are checked, nothing is
followed, every byte is counted; and a folder is copied before it is read, because a job may still hold its files open,
and cutting short a file that is mapped here would kill the node (SIGBUS). Spec: specs/13-execution.md.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgpack
import msgspec
from msgspec import Meta

from node import outputs
from node.protection.safetensors_header import bad, header_size, tensor_ranges
from protocol.errors import Refused
from protocol.jobspec import NonNegative
from protocol.units import KIB, MIB
from storage.cutting import Part

STATE_BYTES_MAX: Final = 64 * MIB
"""Plain values of a job, without its tensors. What is larger belongs into tensors."""

FILES_MAX: Final = 4_096
"""Files of one snapshot, twice what a job may put out."""

PATH_CHARS_MAX: Final = 480
"""Of a file's path: with the offset of a tensor behind it, it is still a name of a part."""

TABLE_NAME: Final = "contents"
"""The part that lists the files; no file is called so, as every other part's name holds an `@`."""

TABLE_BYTES_MAX: Final = 8 * MIB
STATE_NAME: Final = "state.msgpack"
TENSORS_NAME: Final = "tensors.safetensors"

STREAM_SUFFIX: Final = ".units"
"""Files of the node's own whose pieces lie at multiples of eight: streams of tensors (`node.proving.saving`)."""

SMALL_BYTES: Final = 64 * KIB
"""A smaller file is read instead of mapped: a mapping takes a descriptor."""

STEP_KEYS: Final = ("steps", "rounds")
"""Of the map that a state is: steps of the optimizer, and rounds of loops where there is none."""

STATE_KEYS_MAX: Final = 64
"""Of that map: how far the step is looked for."""

COPY_BYTES: Final = 64 * MIB
"""One call to the kernel, which copies without showing us the bytes."""

_CLONE: Final = 0x40049409
"""FICLONE of linux/fs.h: a copy that shares its blocks, where the file system can."""

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

FilePath = Annotated[str, Meta(min_length=1, max_length=PATH_CHARS_MAX)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file. The time is kept because programs take the newest of their checkpoints by it."""

    path: FilePath
    size: NonNegative
    mtime_ns: NonNegative = 0
    is_executable: bool = False


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every file and folder of a snapshot, sorted by path."""

    files: Annotated[tuple[FileEntry, ...], Meta(max_length=FILES_MAX)]
    folders: Annotated[tuple[FilePath, ...], Meta(max_length=FILES_MAX)] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


_decoder: Final = msgspec.msgpack.Decoder(Contents)


def examine(folder: Path, bytes_max: int, *, is_framework: bool) -> Contents:
    """List a folder. Refused (`snapshot_bad`) for links, devices, strange names, too many or too large files, and for
    the framework's folders everything but the state, the tensors and `files/`."""
    if outputs.usage(folder)[1] > FILES_MAX:
        raise bad(f"the snapshot has more than {FILES_MAX} files and folders")
    files: list[FileEntry] = []
    folders: list[str] = []
    total = 0
    with _opened(folder) as root:
        for where, inner, names, fd in os.fwalk(".", dir_fd=root, follow_symlinks=False, onerror=_unreadable):
            relative = Path(where)
            if len(relative.parts) >= outputs.DEPTH_MAX:
                raise bad(f"the snapshot has folders more than {outputs.DEPTH_MAX} deep")
            for name in inner:
                if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise bad(f"{name[:80]!r} in the snapshot is a symbolic link")
                folders.append(_checked(str(relative / name), is_framework))
            for name in names:
                entry = _entry(_checked(str(relative / name), is_framework), name, fd)
                files.append(entry)
                total += entry.size
                if total > bytes_max or len(files) > FILES_MAX:
                    raise bad(f"the snapshot has more than {bytes_max} bytes or {FILES_MAX} files")
    contents = Contents(tuple(sorted(files, key=lambda file: file.path)), tuple(sorted(folders)))
    if is_framework and STATE_NAME not in {file.path for file in files}:
        raise bad(f"the snapshot has no {STATE_NAME}")
    return contents


def copy(source: Path, target: Path, contents: Contents) -> None:
    """Copy what `examine` found to a new folder of our own. Refused (`snapshot_bad`) for what has become something else
    meanwhile."""
    target.mkdir(mode=0o700)
    for folder in contents.folders:
        (target / folder).mkdir(mode=0o700)
    with _opened(source) as root:
        for file in contents.files:
            with _below(root, file.path) as fd, (target / file.path).open("xb") as into:
                _copy_bytes(fd, into.fileno(), file)
            os.utime(target / file.path, ns=(file.mtime_ns, file.mtime_ns))


def parts(folder: Path, contents: Contents) -> list[Part]:
    """The table, every file, and the tensors each by itself, of a copy of our own; mapped, so that memory is not needed
    for it. Refused (`snapshot_bad`) when a file is not what it is called."""
    found = [Part(TABLE_NAME, 1, memoryview(msgspec.msgpack.encode(contents)))]
    for file in contents.files:
        if file.size == 0:
            continue
        view = _mapped(folder / file.path)
        if file.path == TENSORS_NAME:
            found += _tensors(view)
            continue
        if file.path == STATE_NAME:
            _check_state(view)
        is_stream = file.path.endswith(STREAM_SUFFIX) and file.size % 8 == 0
        found.append(Part(f"{file.path}@0", 8 if is_stream else 1, view))
    return found


def step_of(folder: Path) -> int | None:
    """The step at which a framework's snapshot was cut, from its state: of the optimizer, or else of the loop. None
    where it does not say. The board cannot tell: the job has gone on since."""
    found: dict[object, object] = {}
    with (folder / STATE_NAME).open("rb") as file:
        unpacker = msgpack.Unpacker(file, max_buffer_size=STATE_BYTES_MAX + 1, strict_map_key=False)
        try:
            for _ in range(min(unpacker.read_map_header(), STATE_KEYS_MAX)):
                key = unpacker.unpack()
                if key in STEP_KEYS:
                    found[key] = unpacker.unpack()
                else:
                    unpacker.skip()
        except (msgpack.exceptions.UnpackException, ValueError, TypeError):
            return None
    steps = [value for key in STEP_KEYS if isinstance(value := found.get(key), int) and 0 < value <= 2**62]
    return steps[0] if steps else (0 if found else None)


class FolderWriter:
    """Lays parts out below a folder of our own, which the job does not see yet. At most `bytes_max` bytes."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._left = bytes_max + TABLE_BYTES_MAX
        self._written: dict[str, int] = {}
        self._targets: dict[str, Path] = {}
        self._table = bytearray()
        folder.mkdir()
        folder.chmod(0o777)

    def write(self, name: str, offset: int, data: bytes | memoryview) -> None:
        """Take some bytes of a part. Refused (`snapshot_bad`) for names that lead elsewhere and for too many bytes."""
        self._left -= len(data)
        if self._left < 0:
            raise bad("the snapshot is larger than it may be")
        if name == TABLE_NAME:
            self._table += data
            return
        path, _, number = name.rpartition("@")
        start = int(number) + offset if number.isascii() and number.isdigit() and len(number) < 19 else -1
        if not 0 <= start <= self._bytes_max - len(data):
            raise bad(f"{name[:80]!r} is no name of a part")
        target = self._targets.get(path) or self._target(path)
        with target.open("r+b") as file:
            os.pwrite(file.fileno(), data, start)
        self._written[path] = self._written.get(path, 0) + len(data)

    def finish(self) -> Contents:
        """Check that everything is there, set times and rights. Refused (`snapshot_bad`) otherwise."""
        contents = self._decoded()
        for folder in contents.folders:
            self._make(self._folder / _checked_input(folder))
        for file in contents.files:
            target = self._targets.get(file.path) or self._target(file.path)
            if self._written.pop(file.path, 0) != file.size or target.stat().st_size != file.size:
                raise bad(f"the file {file.path[:80]!r} is not complete in the snapshot")
            target.chmod(0o777 if file.is_executable else 0o666)
            os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
        if self._written:
            raise bad("the snapshot holds files that are not in its table of contents")
        return contents

    def _decoded(self) -> Contents:
        try:
            return _decoder.decode(bytes(self._table))
        except msgspec.DecodeError as error:
            raise bad(f"the table of contents is not right: {str(error)[:120]}") from error

    def _target(self, path: str) -> Path:
        target = self._folder / _checked_input(path)
        self._make(target.parent)
        if len(self._targets) >= FILES_MAX:
            raise bad(f"the snapshot has more than {FILES_MAX} files")
        try:
            target.touch(exist_ok=False)
        except OSError as error:
            raise bad(f"the file {path[:80]!r} cannot be made: {error.strerror}") from error
        self._targets[path] = target
        return target

    def _make(self, folder: Path) -> None:
        if folder != self._folder and not folder.is_dir():
            self._make(folder.parent)
            try:
                folder.mkdir()
            except OSError as error:
                raise bad(f"the folder {folder.name[:80]!r} cannot be made: {error.strerror}") from error
            folder.chmod(0o777)


def _checked(path: str, is_framework: bool) -> str:
    if is_framework and path not in {STATE_NAME, TENSORS_NAME, "files"} and not path.startswith("files/"):
        raise bad(f"{path[:80]!r} does not belong into a snapshot")
    if len(path) > PATH_CHARS_MAX:
        raise bad("a path in the snapshot is too long")
    try:
        return outputs.output_path(path)
    except Refused as refusal:
        raise bad(refusal.detail) from refusal


def _checked_input(path: str) -> Path:
    if len(path) > PATH_CHARS_MAX or len(Path(path).parts) > outputs.DEPTH_MAX:
        raise bad("a path in the snapshot is too long")
    try:
        return outputs.input_path(path)
    except Refused as refusal:
        raise bad(refusal.detail) from refusal


def _unreadable(error: OSError) -> None:
    raise bad(f"a folder of the snapshot cannot be read ({error.strerror})")


def _entry(path: str, name: str, folder_fd: int) -> FileEntry:
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        raise bad(f"the file {path[:80]!r} went away") from error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise bad(f"{path[:80]!r} in the snapshot is not a regular file with one name")
    if path == STATE_NAME and status.st_size > STATE_BYTES_MAX:
        raise bad(f"the state has {status.st_size} bytes, {STATE_BYTES_MAX} are allowed")
    return FileEntry(path, status.st_size, max(0, status.st_mtime_ns), bool(status.st_mode & 0o111))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        fd = os.open(folder, _OPEN_FOLDER)
    except OSError as error:
        raise bad(f"the snapshot is not a folder ({error.strerror})") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _below(root: int, path: str) -> Iterator[int]:
    """A file for reading, without following any link on the way."""
    *folders, name = path.split("/")
    opened = os.dup(root)
    try:
        for folder in folders:
            inner = os.open(folder, _OPEN_FOLDER, dir_fd=opened)
            os.close(opened)
            opened = inner
        fd = os.open(name, _OPEN, dir_fd=opened)
    except OSError as error:
        raise bad(f"the file {path[:80]!r} cannot be read ({error.strerror})") from error
    finally:
        os.close(opened)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise bad(f"{path[:80]!r} in the snapshot is not a regular file with one name")
        yield fd
    finally:
        os.close(fd)


def _copy_bytes(source: int, target: int, file: FileEntry) -> None:
    if not _is_cloned(source, target):
        done = 0
        while done < file.size:
            count = _copied(source, target, min(COPY_BYTES, file.size - done))
            if count == 0:
                break
            done += count
    if os.fstat(target).st_size < file.size:
        raise bad(f"the file {file.path[:80]!r} became shorter while it was read")
    os.ftruncate(target, file.size)  # It may have grown.


def _is_cloned(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        return False
    return True


def _copied(source: int, target: int, size: int) -> int:
    """Bytes that were copied from where `source` stands to where `target` stands."""
    try:
        return os.copy_file_range(source, target, size)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise
    return os.write(target, os.read(source, min(size, MIB)))


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= SMALL_BYTES:
            return memoryview(file.read())
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _tensors(view: memoryview) -> Iterator[Part]:
    size = header_size(bytes(view[:8]), len(view))
    tensors = tensor_ranges(bytes(view[:size]), len(view))
    yield Part(f"{TENSORS_NAME}@0", 1, view[:size])
    for tensor in tensors:
        if tensor.start < tensor.end:
            yield Part(f"{TENSORS_NAME}@{tensor.start}", tensor.itemsize, view[tensor.start : tensor.end])


def _check_state(data: memoryview) -> None:
    """One MessagePack map and nothing else; it is walked over, never built."""
    unpacker = msgpack.Unpacker(max_buffer_size=STATE_BYTES_MAX + 1)
    try:
        unpacker.feed(data)
        unpacker.skip()
    except (msgpack.exceptions.UnpackException, ValueError) as error:
        raise bad(f"the state is not MessagePack: {str(error)[:120]}") from error
    is_map = bool(data) and (data[0] & 0xF0 == 0x80 or data[0] in {0xDE, 0xDF})
    if not is_map or unpacker.tell() != len(data):
        raise bad("the state is not one MessagePack map")
