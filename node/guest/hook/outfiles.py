"""What the job had in its output folder at a cut: file contents, and how far its open handles had got.

At the cut only sizes and times are noted, after every open handle was flushed; the bytes are copied beside the running
job. A file that is closed must not have changed by then, one that is open for writing may only have grown: otherwise
the snapshot is dropped and the next loop head cuts another.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import weakref

from .packing import Damaged
from .shield import Refusal

COPY_BYTES = 1024 * 1024
"""One read of a file that is copied."""

FILES_MAX = 65_536
"""Files of one snapshot."""

opened: list[weakref.ref[io.IOBase]] = []
"""Handles of the script, in the order of opening."""


class Noted:
    """One file at the cut: its path below the output folder, size, and what shows that it changed."""

    __slots__ = ("is_open", "mark", "path", "size")

    def __init__(self, path: str, told: os.stat_result, is_open: bool) -> None:
        self.path = path
        self.size = told.st_size
        self.mark = (told.st_ino, told.st_size, told.st_mtime_ns)
        self.is_open = is_open


def install() -> None:
    """Notice every file that the script opens from now on."""
    plain = builtins.open

    def noticing(*args: object, **named: object) -> object:
        handle = plain(*args, **named)  # type: ignore[call-overload]
        try:
            opened.append(weakref.ref(handle))
        except TypeError:
            return handle
        return handle

    noticing.__name__ = noticing.__qualname__ = "open"
    builtins.open = noticing  # type: ignore[assignment]
    io.open = noticing  # type: ignore[assignment]


def handles(folder: str) -> list[tuple[str, io.IOBase]]:
    """(path below `folder`, handle) of open handles there, in the order of opening."""
    found: list[tuple[str, io.IOBase]] = []
    opened[:] = [reference for reference in opened if reference() is not None]
    for reference in opened:
        handle = reference()
        name = getattr(handle, "name", None)
        if handle is None or handle.closed or not isinstance(name, (str, bytes)):
            continue
        path = os.path.realpath(os.fsdecode(name))
        if path.startswith(folder + os.sep):
            found.append((os.path.relpath(path, folder), handle))
    return found


def note(folder: str) -> tuple[list[Noted], list[list[object]]]:
    """The files below `folder`, and [path, position] of every open handle. Raises Refusal, OSError."""
    positions: list[list[object]] = []
    writing: set[str] = set()
    for path, handle in handles(folder):
        if handle.writable():
            handle.flush()
            writing.add(path)
        positions.append([path, _position(handle)])
    found: list[Noted] = []
    for parent, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(parent, name)
            told = os.lstat(full)
            if os.path.isfile(full) and not os.path.islink(full):
                path = os.path.relpath(full, folder)
                found.append(Noted(path, told, path in writing))
    if len(found) > FILES_MAX:
        raise Refusal("the output folder holds more than %d files" % FILES_MAX)
    return found, positions


def _position(handle: io.IOBase) -> int:
    """-1 where a text file that is being iterated will not say."""
    try:
        return handle.tell()
    except (OSError, ValueError):
        return -1


def copy(folder: str, noted: list[Noted], target: str) -> int:
    """Copy what was noted; bytes copied. Raises Refusal when the job has changed one of the files meanwhile."""
    total = 0
    for item in noted:
        source, goal = os.path.join(folder, item.path), os.path.join(target, item.path)
        os.makedirs(os.path.dirname(goal), exist_ok=True)
        try:
            total += _copy(source, goal, item.size)
            told = os.lstat(source)
        except FileNotFoundError:
            raise Refusal("%s went away while a snapshot was written" % item.path) from None
        same = (told.st_ino, told.st_size, told.st_mtime_ns) == item.mark
        if not same and not (item.is_open and told.st_ino == item.mark[0] and told.st_size >= item.size):
            raise Refusal("%s changed while a snapshot was written" % item.path)
    return total


def _copy(source: str, goal: str, size: int) -> int:
    with io.FileIO(source) as reader, io.FileIO(goal, "w") as writer:
        left = size
        while left > 0:
            data = reader.read(min(left, COPY_BYTES))
            if not data:
                break
            writer.write(data)
            left -= len(data)
        os.fsync(writer.fileno())
    return size - left


def put_back(folder: str, saved: str, positions: object) -> None:
    """Make the output folder what it was; open handles stay valid and stand where they stood. Raises OSError."""
    mine = handles(folder)
    for _, handle in mine:
        if handle.writable():
            handle.flush()
    wanted: set[str] = set()
    for parent, _, names in os.walk(saved):
        for name in names:
            path = os.path.relpath(os.path.join(parent, name), saved)
            wanted.add(path)
            goal = os.path.join(folder, path)
            os.makedirs(os.path.dirname(goal), exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(goal, flags, 0o644), "wb") as writer, io.FileIO(os.path.join(saved, path)) as reader:
                shutil.copyfileobj(reader, writer, COPY_BYTES)
    for parent, _, names in os.walk(folder):
        for name in names:
            if os.path.relpath(os.path.join(parent, name), folder) not in wanted:
                os.unlink(os.path.join(parent, name))
    _seek(mine, positions)


def _seek(mine: list[tuple[str, io.IOBase]], positions: object) -> None:
    if not isinstance(positions, list):
        raise Damaged("positions of handles that are no list")
    left = list(mine)
    for item in positions:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[1], int):
            raise Damaged("a position of a handle that is none")
        for index, (path, handle) in enumerate(left):
            if path == item[0]:
                del left[index]
                if item[1] >= 0 and handle.seekable():
                    handle.seek(item[1])
                break
