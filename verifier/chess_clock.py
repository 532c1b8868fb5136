"""A claim's clock in a game: it runs while the claim owes a move, and a claim that uses it up has lost.

Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.units import MINUTE, SECOND, Micros

TOTAL: Final = Micros(5 * MINUTE)
"""Microseconds that a claim may think in one game: 7 rounds of 8 parts, each with a restart in it."""

EXTENSION: Final = Micros(30 * SECOND)
"""Microseconds that a claim gets when it moves with less than LOW left: one lost message must not decide a game."""

LOW: Final = Micros(15 * SECOND)
"""Microseconds below which a clock counts as nearly out: three times what a question needs to be asked again."""

EXTENSIONS_MAX: Final = 4
"""Extensions in one game: they forgive a bad line, and bound how long it may be bad."""

CLOCK_MAX: Final = Micros(TOTAL + EXTENSIONS_MAX * EXTENSION)
"""Microseconds that one clock runs at most."""


@dataclass(slots=True)
class ChessClock:
    """Time of one claim. Runs between `start` and `stop`."""

    left: int = TOTAL
    """Microseconds, while it stands."""
    since: Micros | None = None
    """When it was started; None while it stands."""
    extensions: int = 0

    def start(self, now: Micros) -> None:
        """The claim owes a move from now on."""
        if self.since is None:
            self.since = now

    def stop(self, now: Micros) -> None:
        """It moved. With less than LOW left it gets an extension, EXTENSIONS_MAX times."""
        if self.since is None:
            return
        self.left -= max(0, now - self.since)
        self.since = None
        if self.left < LOW and self.extensions < EXTENSIONS_MAX:
            self.left += EXTENSION
            self.extensions += 1

    @property
    def deadline(self) -> Micros | None:
        """When it runs out unless it is stopped; None while it stands."""
        return None if self.since is None else Micros(self.since + self.left)

    def is_out(self, now: Micros) -> bool:
        """Whether the claim has lost by silence."""
        return self.deadline is not None and now >= self.deadline
