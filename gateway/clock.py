"""Time as the gateway sees it: the house's clock for instants, the loop's clock for spans."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from node.clock import Clock
from protocol.units import Micros

_CLOCK: Final = Clock()


def wall() -> Micros:
    """Integer microseconds since the Unix epoch."""
    return _CLOCK.now()


def steady() -> float:
    """Seconds of the running loop's monotonic clock."""
    return asyncio.get_running_loop().time()


def rfc3339(time: int) -> str:
    """A time as people and logs write it, UTC.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(time // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time // 1000 % 1000:03d}Z"
