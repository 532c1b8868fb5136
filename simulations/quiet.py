"""Whether nothing is left to happen: then the rest of a settle phase need not be waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

QUIET: Final = 5
"""Seconds in a row in which everything has ended, before a run is over early: a late message has come by then."""


class Quiet:
    """Asked once a second. `unfinished` names something that has not ended yet, or None."""

    def __init__(self, unfinished: Callable[[], object]) -> None:
        self._unfinished = unfinished
        self._since = 0

    def __call__(self, now: int) -> bool:
        self._since = 0 if self._unfinished() is not None else self._since + 1
        return self._since >= QUIET
