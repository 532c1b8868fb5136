"""From the raw bytes of a job to lines that are safe to show: cut, counted, without control characters."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from protocol.units import MIB

LOG_LINE_CHARS_MAX: Final = 2_048
"""Characters of one line, the bound of `messages.LogLine`; what is longer is cut, not wrapped."""

LOG_LINES_MAX: Final = 20_000
"""Lines of one chunk: more than anybody reads, and little enough to keep."""

LOG_BYTES_MAX: Final = 4 * MIB
"""Bytes of one chunk's log; the rest is counted and dropped."""

CUT_MARK: Final = " …[cut]"
_UNSAFE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0 (tab excepted), DEL, C1, line separators and direction overrides: nothing that could move a reader's cursor."""


class LogLines:
    """Cuts a byte stream into lines and hands each to `on_line`."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""
        self._is_skipping = False
        self._lines = 0
        self._bytes = 0
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *complete, rest = (self._rest + data).split(b"\n")
        for line in complete:
            self._line(line)
        self._rest = rest
        if len(rest) > 4 * LOG_LINE_CHARS_MAX:
            if not self._is_skipping:
                self._line(rest)
            self._rest, self._is_skipping = b"", True

    def close(self) -> None:
        """The stream ended: hand out what is left, and say how much was dropped."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._is_skipping = False
        if self._dropped:
            self._on_line(f"[log limit reached: {self._dropped} more lines were dropped]")
            self._dropped = 0

    def _line(self, raw: bytes) -> None:
        if self._is_skipping:
            self._is_skipping = False
            return
        if self._lines >= LOG_LINES_MAX or self._bytes + len(raw) > LOG_BYTES_MAX:
            self._dropped += 1
            return
        self._lines += 1
        self._bytes += len(raw)
        self._on_line(clean_line(raw))


def clean_line(raw: bytes) -> str:
    """One line as people may see it: UTF-8 with replacements, unsafe characters as `�`, at most LOG_LINE_CHARS_MAX.

    >>> clean_line(b"plain\\x1b[2Jred")
    'plain�[2Jred'
    """
    text = raw[: 4 * LOG_LINE_CHARS_MAX].decode("utf-8", "replace").removesuffix("\r")
    text = _UNSAFE.sub("\ufffd", text)
    return text if len(text) <= LOG_LINE_CHARS_MAX else text[: LOG_LINE_CHARS_MAX - len(CUT_MARK)] + CUT_MARK
