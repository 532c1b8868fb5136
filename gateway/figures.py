"""Numbers, times and ids as people read them. What is not known is called unknown, never zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from gateway import clock
from protocol.units import CREDIT, HOUR, MINUTE, SECOND

UNKNOWN: Final = "unknown"
_SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def in_credits(amount: int | None) -> str:
    """Smallest units as credits with all six decimals, so that columns line up and nothing is rounded.

    >>> in_credits(1234567890123)
    '1 234 567.890123'
    """
    if amount is None:
        return UNKNOWN
    whole, part = divmod(abs(amount), CREDIT)
    return f"{'−' if amount < 0 else ''}{whole:,}.{part:06d}".replace(",", " ")


def short(text: str | None) -> str:
    """An id cut to what tells it from others: the end of a peer id, the start of everything else."""
    if not text:
        return UNKNOWN
    if text.startswith("12D3KooW"):
        return f"…{text[-6:]}"
    head, _, tail = text.partition("_")
    return f"{head}_{tail[:8]}…" if len(tail) > 10 else text


def at(time: int | None) -> str:
    """The time of day, UTC."""
    return clock.rfc3339(time)[11:19] if time else UNKNOWN


def span(micros: int | None) -> str:
    """A duration with two significant parts.

    >>> span(3_723_000_000)
    '1 h 02 min'
    """
    if micros is None:
        return UNKNOWN
    if micros < 60 * SECOND:
        return f"{micros / SECOND:.1f} s"
    if micros < 60 * MINUTE:
        return f"{micros // MINUTE} min {micros % MINUTE // SECOND:02d} s"
    return f"{micros // HOUR} h {micros % HOUR // MINUTE:02d} min"


def size(count: int | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return UNKNOWN
    for name, unit in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def rate(count: int) -> str:
    """Bytes per second as lines are sold.

    >>> rate(12_500_000)
    '100 Mbit/s'
    """
    return f"{count * 8 / 1e6:.3g} Mbit/s" if count else UNKNOWN


def seconds(part: float) -> str:
    """Seconds, rounded up: an upper bound.

    >>> seconds(6.2), seconds(200.0)
    ('7 s', '4 min')
    """
    whole = math.ceil(part)
    return f"{whole} s" if whole < 120 else f"{math.ceil(whole / 60)} min"


def share(part: float | None) -> str:
    """A value between 0 and 1 with two decimals."""
    return UNKNOWN if part is None else f"{part:.2f}"


def known(value: object) -> str:
    """The value, or the word unknown."""
    return UNKNOWN if value is None or value == "" else str(value)


def words(name: str) -> str:
    """`chunk_accepted` or `job.funded` as words."""
    return name.replace("_", " ").replace(".", " ")


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "credits": in_credits,
    "short": short,
    "at": at,
    "span": span,
    "size": size,
    "rate": rate,
    "seconds": seconds,
    "share": share,
    "known": known,
    "words": words,
}
