"""The chain as checkers read it: every operation that was applied, once, in the ledger's order.

Fed by the receipts that the ordering validator gives itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from protocol.effects import Effect, Send
from protocol.messages import Receipts
from protocol.operations import Operation, SignedOp
from simulations.subject import Subject, is_honest

_operations: Final[msgspec.msgpack.Decoder[Operation]] = msgspec.msgpack.Decoder(Operation)

Apply = Callable[[Operation, SignedOp, int, int, int], None]
"""(operation, as it was signed, ledger time, whose receipts, now in ns)."""


class Chain:
    """What validators say is applied. Whoever reads it hands in what it hears as an observer."""

    def __init__(self, apply: Apply) -> None:
        self._apply = apply
        self._read = (0, -1)
        """(height, index) of the last operation read."""
        self._unwritten: dict[int, list[Receipts]] = {}
        """What a validator is about to say: true once anything has left it, because its block is on the disk then."""
        self._applied: set[bytes] = set()

    def handled(self, peer: Subject, effects: list[Effect], now: int) -> None:
        """A peer acted."""
        self.sent(peer.index, now)
        for effect in effects:
            if (
                type(effect) is Send
                and type(effect.message) is Receipts
                and effect.peer == peer.identity.peer
                and is_honest(peer)
                and peer.role == "validator"
            ):
                self._unwritten.setdefault(peer.index, []).append(effect.message)

    def sent(self, source: int, now: int) -> None:
        """A message has left a peer."""
        for receipts in self._unwritten.pop(source, ()):
            self._read_block(receipts, source, now)

    def moved(self, peer: int) -> None:
        """A peer came or went: what it was about to say is lost."""
        self._unwritten.pop(peer, None)

    def _read_block(self, receipts: Receipts, peer: int, now: int) -> None:
        header = receipts.header
        for signed, receipt in zip(receipts.operations, receipts.receipts, strict=True):
            if (header.height, receipt.index) <= self._read:
                continue
            self._read = (header.height, receipt.index)
            if receipt.outcome.status == "applied" and receipt.outcome.op not in self._applied:
                self._applied.add(receipt.outcome.op)  # Ordered again, it gets its first outcome and does nothing.
                self._apply(_operations.decode(signed.body), signed, header.time, peer, now)
