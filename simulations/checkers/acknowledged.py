"""No acknowledged operation is lost: what a validator sent a receipt for stays in its chain, also after its restart."""

from __future__ import annotations

from typing import ClassVar

from protocol.messages import Receipts
from simulations.checkers.checker import Checker
from simulations.scenario import Check
from simulations.subject import Subject, is_honest


class Acknowledged(Checker):
    """Remembers every receipt that an honest validator sent, and looks for it in that validator's ledger.

    Counted from the sending: receipts leave behind the store of their block, so even one that never arrives must hold.
    An operation that is ordered again gets its first outcome and does nothing, so the first height counts.
    That the block has the same header is the agreement checker's part."""

    name: ClassVar[Check] = "acknowledged"

    def __init__(self) -> None:
        super().__init__()
        self._sent: dict[int, dict[bytes, tuple[int, str]]] = {}
        """By validator: op id -> (height, status)."""
        self.receipts = 0
        """Different operations acknowledged, for the summary of a swarm."""

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        if is_up and peer.index in self._sent:
            self._look(peer, now, "after its restart")

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        if type(message) is not Receipts:
            return
        assert isinstance(message, Receipts)
        peer = self.peers[source]
        if peer.role != "validator" or not is_honest(peer):
            return
        known, height = self._sent.setdefault(source, {}), message.header.height
        for receipt in message.receipts:
            outcome = receipt.outcome
            before = known.get(outcome.op)
            if before is None or before[1] == "refused":  # What was refused may be tried again, in a later block.
                self.receipts += before is None
                known[outcome.op] = (height, outcome.status)

    def finished(self, now: int) -> None:
        for peer in self.peers:
            if peer.is_up:
                self._look(peer, now, "at the end")

    def _look(self, peer: Subject, now: int, when: str) -> None:
        replica = peer.machines.replica
        outcomes = replica.ledger.outcomes
        for op, (height, status) in self._sent.get(peer.index, {}).items():
            if height > replica.height:
                self.fail(
                    f"{when} it holds {replica.height} blocks; it had sent a receipt from block {height}",
                    peer.index,
                    now,
                )
            if status != "applied":
                continue
            found = outcomes.get(op)
            if found is None or found[0] != height or found[1].status != status:
                what = "does not know it" if found is None else f"says {found[1].status} in block {found[0]}"
                self.fail(
                    f"{when} it {what}: operation {op.hex()[:16]}, acknowledged in block {height}", peer.index, now
                )
