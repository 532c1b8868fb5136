"""How a test waits for what announces itself by no event: it looks again and again, never longer than it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

LOOK_S: Final = 0.01
"""Seconds between two looks: short beside anything that a test waits for, long beside the look itself."""

SECONDS: Final = 60.0
"""Deadline of what happens in well under a second on an idle machine; a busy one may take its time."""


async def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Look until something holds; whether it did in time. `not await until(...)`: meanwhile it did not happen."""
    end = trio.current_time() + seconds
    while not (is_so := holds()) and trio.current_time() < end:  # noqa: ASYNC110  there is no event to wait for
        await trio.sleep(LOOK_S)
    return is_so


async def happens(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for what must happen. Raises trio.TooSlowError when it does not."""
    if not await until(holds, seconds):
        raise trio.TooSlowError
