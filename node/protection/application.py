"""The tier of programs that save themselves: /checkpoint is watched, its complete state is what a snapshot holds.

Complete is what came by a rename, what has a marker (`*.done`, `latest`) as its newest file, and what nobody has
touched for a while and reads as what its name says. Signals tell the job: SIGUSR1 = save now, SIGTERM =
save and leave with code 85.
"""

from __future__ import annotations

import os
import signal
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node import outputs
from node.executors.process import descendants
from node.protection.safetensors_header import header_size, tensor_ranges
from protocol.errors import Refused

QUIET_NS: Final = 2_000_000_000
"""Files that came without a marker count as complete when nothing below the folder has changed for 2 s."""

LOOK_SECONDS: Final = 0.25
"""Between two looks at the folder while a snapshot is awaited."""

EXIT_SAVED: Final = 85
"""The exit code of a program that has saved its state because it was asked to leave."""

ENTRIES_MAX: Final = 4_096
"""Files that are looked at; a folder with more is not snapshot."""

_TEMPORARY: Final = (".tmp", ".part", ".partial", ".incomplete", ".writing", "~")
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIPS: Final = (".zip", ".npz", ".pt", ".pth", ".ckpt")
_SIGNAL_BITS: Final = "SigCgt:"


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: the files by path, with what tells whether they have changed."""

    files: tuple[tuple[str, int, int, int], ...]
    """(path, size, time of change in ns, inode)."""

    @property
    def newest_ns(self) -> int:
        """Time of the last change, 0 where there is no file."""
        return max((changed for _, _, changed, _ in self.files), default=0)


class CheckpointWatch:
    """Looks at a task's checkpoint folder. `stamp` = a file of the node's own on the same disk: touching it tells the
    time by the clock that stamps the job's files."""

    def __init__(self, folder: Path, stamp: Path) -> None:
        self._folder = folder
        self._stamp = stamp
        self._half: set[int] = set()
        self.taken = Seen(())
        """What the last snapshot was made of."""

    def look(self) -> Seen:
        """What lies there now. Blocks for a few milliseconds."""
        found: list[tuple[str, int, int, int]] = []
        queue = [""]
        while queue and len(found) <= ENTRIES_MAX:
            inner = queue.pop()
            try:
                with os.scandir(self._folder / inner) as listing:
                    for entry in listing:
                        status = entry.stat(follow_symlinks=False)
                        path = f"{inner}/{entry.name}".lstrip("/")
                        if stat.S_ISDIR(status.st_mode) and path.count("/") < outputs.DEPTH_MAX:
                            queue.append(path)
                        elif stat.S_ISREG(status.st_mode):
                            changed = max(status.st_mtime_ns, status.st_ctime_ns)
                            found.append((path, status.st_size, changed, status.st_ino))
            except OSError:
                continue
        return Seen(tuple(sorted(found)))

    def complete(self) -> Seen | None:
        """A state of the folder that is whole and newer than the one taken last; None where there is none."""
        seen = self.look()
        half = {inode for path, _, _, inode in seen.files if _is_temporary(path)}
        if half or not seen.files or seen == self.taken or len(seen.files) > ENTRIES_MAX:
            self._half |= half
            return None
        newest = max(seen.files, key=lambda file: file[2])
        is_marked = _is_marker(newest[0]) or newest[3] in self._half
        if not is_marked and self._now_ns() - seen.newest_ns < QUIET_NS:
            return None
        if all(_reads(self._folder / path, size) for path, size, *_ in seen.files):
            self._half.clear()
            return seen
        return None

    def _now_ns(self) -> int:
        self._stamp.touch()
        os.utime(self._stamp)
        return self._stamp.stat().st_mtime_ns

    async def wait_complete(self, seconds: float) -> Seen | None:
        """Wait for a newer complete state."""
        with trio.move_on_after(seconds):
            while True:
                if seen := await trio.to_thread.run_sync(self.complete):
                    return seen
                await trio.sleep(LOOK_SECONDS)
        return None


def tell(first: int | None, number: signal.Signals) -> int:
    """Send a signal to those processes of a sandbox that handle it; to the others it would be the end. How many were
    told."""
    told = 0
    for pid in descendants(first) if first else ():
        if _handles(pid, number):
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue
            told += 1
    return told


def _handles(pid: int, number: signal.Signals) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith(_SIGNAL_BITS)), 0)
    return bool(caught >> (number - 1) & 1)


def _is_temporary(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(_TEMPORARY) or ".tmp" in name or name.startswith(".")


def _is_marker(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".done") or name in {"latest", "latest.txt", "done"}


def _reads(path: Path, size: int) -> bool:
    """False where the name promises a format and the bytes do not keep it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(fd, "rb") as file:
        try:
            if path.suffix == ".safetensors":
                header = file.read(header_size(os.pread(fd, 8, 0), size))
                return bool(tensor_ranges(header, size)) or size == len(header)
            if path.suffix in _ZIPS and os.pread(fd, 2, 0) == b"PK":
                return zipfile.is_zipfile(file)
            if path.suffix in {".h5", ".hdf5"}:
                return os.pread(fd, len(_HDF5), 0) == _HDF5
        except (OSError, Refused):
            return False
    return True
