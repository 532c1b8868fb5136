"""Money: the ledger's own invariants (I1–I5) on every validator, and no unit more or less than the genesis gave."""

from __future__ import annotations

from typing import ClassVar, Final

from protocol.accounts import RESERVE
from protocol.effects import Effect
from protocol.errors import LocalError
from protocol.ledger import Ledger
from protocol.messages import Blocks, Proposal, Submit, Vote
from simulations.checkers.checker import Checker
from simulations.scenario import Check
from simulations.subject import Subject, is_honest

GROWERS: Final = frozenset((Submit, Vote, Proposal, Blocks, type(None)))
"""What can make a validator's ledger a block longer; anything else is not worth a look."""

SMALL: Final = 64
"""Escrows up to which every single block is checked (tens of microseconds); more are checked once per second."""


class Ledgers(Checker):
    """Runs `Ledger.check` over every validator's executed ledger. A simulation mints nothing, so supply never grows;
    what it shrinks by is the half of slashes that a policy burns."""

    name: ClassVar[Check] = "ledger"

    def __init__(self) -> None:
        super().__init__()
        self._checked: dict[int, int] = {}
        """Height that was last checked, by validator."""
        self._waiting: dict[int, Subject] = {}
        self._supply: int | None = None

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        if peer.role != "validator" or not is_honest(peer) or type(cause) not in GROWERS:
            return
        ledger = peer.machines.ledger
        if ledger.height == self._checked.get(peer.index):
            return
        self._checked[peer.index] = ledger.height
        if len(ledger.escrows) > SMALL:
            self._waiting[peer.index] = peer
        else:
            self._check(ledger, peer.index, now)

    def second(self, now: int) -> None:
        for index, peer in sorted(self._waiting.items()):
            self._check(peer.machines.ledger, index, now)
        self._waiting.clear()

    def finished(self, now: int) -> None:
        self.second(now)

    def _check(self, ledger: Ledger, peer: int, now: int) -> None:
        try:
            ledger.check()
        except LocalError as error:
            self.fail(f"{error.code}: {error.detail}", peer, now)
        supply = -ledger.available(*RESERVE)
        if self._supply is None:
            self._supply = supply
        elif supply > self._supply or (supply < self._supply and ledger.policy is None):
            self.fail(f"the reserve owes {supply}, at the start it owed {self._supply}", peer, now)
