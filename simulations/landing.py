"""A file that appears whole or not at all: written beside its place, synced, renamed. A full disk is said plainly."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import Refused

SUFFIX: Final = ".part"
"""Ends the name of a file that is still being written. Nothing reads these; a run that starts again deletes them."""


class Landing:
    """A file under way. `write` bytes, then `commit`, or `abandon`; a second call of either does nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = path.with_name(f".{path.name}{SUFFIX}")
        self.size = 0
        """Bytes written so far."""
        with explained(path, 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.beside.open("wb")

    @property
    def is_open(self) -> bool:
        """Neither committed nor abandoned."""
        return not self._stream.closed

    def write(self, data: bytes) -> int:
        """Append. Raises `Refused` (`disk_full`, `unwritable`) after deleting what was written."""
        try:
            with explained(self.path, self.size + len(data)):
                self._stream.write(data)
        except Refused:
            self.abandon()
            raise
        self.size += len(data)
        return len(data)

    def commit(self) -> None:
        """Make it durable under its own name."""
        if self._stream.closed:
            return
        try:
            with explained(self.path, self.size):
                self._stream.flush()
                os.fsync(self._stream.fileno())
                self._stream.close()
                self.beside.replace(self.path)
        except Refused:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Delete what was written."""
        if not self._stream.closed:
            with contextlib.suppress(OSError):
                self._stream.close()
            with contextlib.suppress(OSError):
                self.beside.unlink()


def write(path: Path, data: bytes) -> None:
    """One whole file. Raises as `Landing` does."""
    landing = Landing(path)
    landing.write(data)
    landing.commit()


@contextlib.contextmanager
def explained(path: Path, size: int) -> Iterator[None]:
    """Turn an `OSError` into `Refused` that names the path and the bytes that were to lie there."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Refused(
                f"the disk is full: {path} needs {size:,} bytes so far",
                code="disk_full",
                fix="Free space and run the same command again: what is complete is kept.",
                numbers={"path": str(path), "bytes": size},
            ) from error
        raise Refused(
            f"{path} cannot be written: {error.strerror}",
            code="unwritable",
            fix="Choose a folder that you may write to.",
            numbers={"path": str(path)},
        ) from error
