"""Honest machines break no contract of their own, and accuse no other honest machine.

What an honest peer may be accused of without anybody's fault is a table, each line with its reason."""

from __future__ import annotations

from typing import ClassVar, Final

from protocol.effects import Effect, Fail
from protocol.errors import LocalError, RemoteViolation, ShoalError
from simulations.checkers.checker import Checker
from simulations.scenario import Check
from simulations.subject import Subject, is_honest

INNOCENT: Final[dict[str, str]] = {
    "clock_skew": "a clock fault: the offer was issued on a clock that is ahead of ours by more than the rule allows",
}
"""Code of a rule that may fire between honest peers -> the fault that explains it."""

DISK: Final[dict[str, str]] = {
    "disk_full": "the disk refused a write; a node that cannot keep what it promised must stop",
    "power_cut": "the host lost power in the middle of a write",
    "rotten_journal": "stored blocks changed on the disk: a validator must not go on with them",
}
"""Code of an error that ends a node -> the fault of its disk that explains it."""

RAISED: Final = (ShoalError, AssertionError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What must never come out of a world; whoever runs it turns these into a violation of this checker."""


class Faultless(Checker):
    """Looks at every `Fail` of honest peers, and at every machine that ended with an exception."""

    name: ClassVar[Check] = "faultless"

    def __init__(self) -> None:
        super().__init__()
        self._honest: dict[bytes, int] | None = None
        """Peer id -> index, of peers that follow the rules."""
        self.accusations = 0
        """Violations that were justified or innocent, for the summary of a swarm."""

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        for effect in effects:
            if type(effect) is Fail:
                assert isinstance(effect, Fail)
                self._failed(peer, cause, effect.error, now)

    def crashed(self, peer: Subject, error: Exception, now: int) -> None:
        if isinstance(error, ShoalError) and error.code in DISK:
            return
        if is_honest(peer):
            code = f" {error.code}" if isinstance(error, ShoalError) else ""
            self.fail(f"the node ended with {type(error).__name__}{code}: {error}", peer.index, now)

    def _failed(self, peer: Subject, cause: object, error: ShoalError, now: int) -> None:
        what = "a tick" if cause is None else type(cause).__name__
        if isinstance(error, LocalError):
            self.fail(f"LocalError {error.code} on {what}: {error.detail}", peer.index, now)
        if not isinstance(error, RemoteViolation) or not is_honest(peer):
            return
        accused = self._index(error.peer)
        if accused is None or error.code in INNOCENT:
            self.accusations += 1
            return
        who = "itself" if accused == peer.index else f"honest peer {accused}"
        self.fail(f"accuses {who} over {what}: {error.code}: {error.rule}", peer.index, now)

    def _index(self, accused: bytes) -> int | None:
        if self._honest is None:
            self._honest = {bytes(peer.identity.peer): peer.index for peer in self.peers if is_honest(peer)}
        return self._honest.get(accused)
