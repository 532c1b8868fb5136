"""A peer's way to the ledger: operations go out until a verified receipt says what became of them.

Receipts are checked once, here (certificate, Merkle proof); listeners hear of each ordered operation exactly once.
Spec: specs/08-blocks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from protocol import wire
from protocol.block import verify_receipts
from protocol.completions import Completion
from protocol.effects import Effect, Send, Store, Wake
from protocol.ledger import Ledger
from protocol.messages import Header, Message, Outcome, Receipts, Submit
from protocol.operations import EscrowOpen, Operation, SignedOp
from protocol.units import Digest, Micros, PeerId
from protocol.validators import ValidatorSet

RESUBMIT: Final = Micros(3_000_000)
"""Microseconds without a receipt before an operation is sent again: many blocks of a ledger that is at work."""

REMEMBERED_MAX: Final = 100_000
"""Outcomes remembered, so that a repeated receipt is not heard twice; oldest forgotten first. What was refused may be
applied later, so both are heard."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """One operation that the ledger decided: what it was, what became of it, and in which block."""

    operation: Operation
    signed: SignedOp
    outcome: Outcome
    header: Header

    @property
    def is_applied(self) -> bool:
        return self.outcome.status == "applied"


class Listener(Protocol):
    """Whoever wants to hear of ordered operations."""

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]: ...


class LedgerClient:
    """Sends operations to every validator and hears what became of them."""

    accepts: tuple[type, ...] = (Receipts,)

    def __init__(self, validators: ValidatorSet, copy: Callable[[], Ledger] | None = None) -> None:
        """`copy`: this peer's own copy of the ledger, whose clock goes on while no receipt comes."""
        self._validators = validators
        self._copy = copy
        self._pending: dict[Digest, tuple[SignedOp, Micros]] = {}
        self._heard: dict[tuple[bytes, str], None] = {}
        self.listeners: list[Listener] = []
        self.time = Micros(0)
        """The newest ledger time seen in a certified header."""
        self._seen_at = Micros(0)
        self._now = Micros(0)

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """Every validator."""
        return self._validators.peers

    @property
    def undecided(self) -> int:
        """Operations handed in whose receipt has not come yet."""
        return len(self._pending)

    def ledger_now(self, now: Micros) -> Micros:
        """An estimate of the ledger clock: the last certified time, plus what passed since, at most one idle block."""
        copy = self._copy() if self._copy is not None else None
        if copy is not None and copy.height:
            self.observe(copy.time, now)
        if self.time == 0:
            return now
        return Micros(self.time + min(max(0, now - self._seen_at), 5_000_000))

    def observe(self, time: Micros, now: Micros) -> None:
        """A certified header was seen elsewhere (the follower)."""
        if time > self.time:
            self.time, self._seen_at = time, now

    def submit(self, operation: SignedOp, now: Micros) -> list[Effect]:
        """Send now, and again until a receipt comes."""
        self._pending[operation.op_id] = (operation, Micros(now + RESUBMIT))
        return [*self._send(operation), Wake(Micros(now + RESUBMIT), self)]

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        assert isinstance(message, Receipts)
        outcomes = verify_receipts(message, self._validators, sender)
        self.observe(Micros(message.header.time), now)
        stored: list[Effect] = []
        effects: list[Effect] = []
        for index, (operation, signed, outcome) in enumerate(outcomes):
            self._pending.pop(Digest(outcome.op), None)
            if (outcome.op, outcome.status) in self._heard:
                continue
            escrow = outcome.op if isinstance(operation, EscrowOpen) else getattr(operation, "escrow", None)
            if escrow is not None:
                one = Receipts(message.header, message.certificate, (signed,), (message.receipts[index],))
                key = f"receipt/{escrow.hex()}/{message.header.height:012d}/{one.receipts[0].index:06d}"
                stored.append(Store(key, wire.encode(one)))
            effects += self._hear(Ordered(operation, signed, outcome, message.header), now)
        return [*stored, *effects]

    def tick(self, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for op, (signed, due) in list(self._pending.items()):
            if due <= now:
                self._pending[op] = (signed, Micros(now + RESUBMIT))
                effects += self._send(signed)
        if self._pending:
            effects.append(Wake(min(due for _, due in self._pending.values())))
        return effects

    def _hear(self, event: Ordered, now: Micros) -> list[Effect]:
        self._heard[event.outcome.op, event.outcome.status] = None
        if len(self._heard) > REMEMBERED_MAX:
            self._heard.pop(next(iter(self._heard)))
        return [effect for listener in self.listeners for effect in listener.ordered(event, now)]

    def _send(self, operation: SignedOp) -> list[Effect]:
        return [Send(peer, Submit((operation,))) for peer in self.peers]
