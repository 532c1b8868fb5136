"""What commands say: data on stdout, talk on stderr; tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TextIO

from protocol.credits import credits_text
from protocol.errors import Refused, ShoalError
from protocol.units import GIB, KIB, MIB, SECOND

Tone = Literal["good", "bad", "warn", "dim", "bold"]
_TONES: Final[Mapping[str, str]] = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}
PEER_CHARS: Final = 12
"""Of a peer id in tables: the last ones, for all begin alike."""


class Output:
    """One command's voice."""

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        environment: Mapping[str, str],
        *,
        as_json: bool = False,
        is_quiet: bool = False,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._as_json = as_json
        self._is_quiet = is_quiet
        self._has_colour = _wants_colour(stdout, environment)
        self._talks_in_colour = _wants_colour(stderr, environment)

    @property
    def is_json(self) -> bool:
        """Whether a program reads us."""
        return self._as_json

    @property
    def is_live(self) -> bool:
        """Whether a person watches stderr: progress may redraw its line."""
        return self._stderr.isatty() and not self._as_json and not self._is_quiet

    def data(self, value: object, human: Callable[[], str]) -> None:
        """The answer: `value` as JSON, or the text that `human` makes of it."""
        text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain) if self._as_json else human()
        self._stdout.write(text + "\n" if text else "")
        self._stdout.flush()

    def line(self, value: Mapping[str, object], text: str) -> None:
        """One item of a stream: a JSON line, or text."""
        self._stdout.write((json.dumps(value, ensure_ascii=False, default=_plain) if self._as_json else text) + "\n")
        self._stdout.flush()

    def say(self, text: str = "") -> None:
        """Talk."""
        if not self._is_quiet:
            self._stderr.write(text + "\n")
            self._stderr.flush()

    def fail(self, error: ShoalError) -> None:
        """One line for the cause, one for the fix; with --json the error as an object. Both on stderr."""
        if self._as_json:
            self._stderr.write(json.dumps({"error": error_object(error)}, ensure_ascii=False, default=_plain) + "\n")
        else:
            cause = " ".join(error.detail.split())
            self._stderr.write(f"{paint('error:', 'bad', self._talks_in_colour)} {cause} [{error.code}]\n")
            if error.fix:
                self._stderr.write(f"{paint('fix:', 'good', self._talks_in_colour)} {' '.join(error.fix.split())}\n")
        self._stderr.flush()

    def tone(self, text: str, tone: Tone) -> str:
        """Text for stdout, coloured where colour is wanted."""
        return paint(text, tone, self._has_colour)


def error_object(error: ShoalError) -> dict[str, object]:
    """An error as programs get it."""
    numbers = error.numbers if isinstance(error, Refused) else {}
    return {"code": error.code, "detail": error.detail, "fix": error.fix, "numbers": numbers}


def paint(text: str, tone: Tone, has_colour: bool) -> str:
    """ANSI colour, or the text as it is."""
    return f"\x1b[{_TONES[tone]}m{text}\x1b[0m" if has_colour else text


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> str:
    """Columns under their heads; numbers of `right` are aligned to the right. Empty rows give ''."""
    if not rows:
        return ""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    lines = [_row([head.upper() for head in heads], widths, right)]
    lines += [_row(row, widths, right) for row in cells]
    return "\n".join(lines)


def pairs(items: Sequence[tuple[str, object]]) -> str:
    """`name  value` lines with the values in one column."""
    width = max((len(name) for name, _ in items), default=0)
    return "\n".join(f"{name:<{width}}  {clean(str(value))}" for name, value in items)


def clean(text: str) -> str:
    """Text from strangers without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def money(amount: object) -> str:
    """Credits, six decimals at most; '–' where there is no number."""
    return credits_text(amount) if isinstance(amount, int) else "–"


def short_peer(peer: object) -> str:
    """The end of a peer id, for tables."""
    return f"…{peer[-PEER_CHARS:]}" if isinstance(peer, str) and len(peer) > PEER_CHARS else str(peer or "–")


def size_text(size: int) -> str:
    """Bytes for people.

    >>> size_text(1536), size_text(12)
    ('1.5 KiB', '12 B')
    """
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} B"


def span_text(micros: int) -> str:
    """A span for people.

    >>> span_text(90_000_000), span_text(1_500_000)
    ('1 min 30 s', '1.5 s')
    """
    seconds = micros / SECOND
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def time_text(micros: object) -> str:
    """An instant, UTC; '–' for none."""
    from datetime import UTC, datetime

    if not isinstance(micros, int) or micros <= 0:
        return "–"
    return datetime.fromtimestamp(micros / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if i in right else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()


def _wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """https://no-color.org: a NO_COLOR that is not empty wins over everything."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is not JSON")
