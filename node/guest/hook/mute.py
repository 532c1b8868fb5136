"""Holds back what a job prints while its prefix is re-executed: those lines were shown before it died."""

from __future__ import annotations

import os
import sys
import tempfile

LAST_BYTES = 300
"""What of the held back lines is told when a restore is given up: the last line of a traceback is in it."""


class Mute:
    """Both output descriptors point into an unnamed file until `end`."""

    def __init__(self) -> None:
        self._saved: list[tuple[int, int]] = []
        self._file = -1

    def begin(self) -> None:
        """From now on nothing is shown."""
        if self._saved:
            return
        _flush()
        self._file, path = tempfile.mkstemp()
        os.unlink(path)
        for descriptor in (1, 2):
            self._saved.append((descriptor, os.dup(descriptor)))
            os.dup2(self._file, descriptor)

    def end(self, *, is_shown: bool) -> str:
        """Show again what is printed from now on, and what was held back where `is_shown`. The end of what was not."""
        if not self._saved:
            return ""
        _flush()
        for descriptor, saved in self._saved:
            os.dup2(saved, descriptor)
            os.close(saved)
        self._saved = []
        if is_shown:
            os.lseek(self._file, 0, os.SEEK_SET)
            while data := os.read(self._file, 65_536):
                os.write(1, data)
        size = os.fstat(self._file).st_size
        last = os.pread(self._file, LAST_BYTES, max(0, size - LAST_BYTES))
        os.close(self._file)
        return "" if is_shown else " ".join(last.decode("utf-8", "replace").split())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
