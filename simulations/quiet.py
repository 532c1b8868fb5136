"""Whether nothing is left to happen: then the rest of a settle phase need not be waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from simulations.checkers.liveness import Liveness
from simulations.observer import Observer
from simulations.subject import is_honest

if TYPE_CHECKING:
    from simulations.world import World

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


def ending(rules: Sequence[Observer], world: World) -> Callable[[int], bool]:
    """A settle phase ends when the liveness rule has nothing left to wait for.

    It lasts its time without that rule, and where no honest validator is left to ask."""
    liveness = next((rule for rule in rules if isinstance(rule, Liveness)), None)
    is_judged = any(peer.role == "validator" and is_honest(peer) for peer in world.peers)
    return Quiet(liveness.unfinished) if liveness is not None and is_judged else lambda now: False
