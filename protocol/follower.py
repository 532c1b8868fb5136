"""Keeps a copy of the ledger on a peer that orders nothing: hears heads, pulls blocks, executes and compares roots.

Certified blocks are not stored: a restarted peer pulls them again. Spec: specs/08-blocks.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from protocol.block import verify_certificate
from protocol.chain import Chain
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Fail, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.genesis import Genesis
from protocol.ledger import Ledger
from protocol.messages import Blocks, BlocksRequest, Head, Message
from protocol.units import Micros, PeerId

REQUEST_RETRY: Final = Micros(2_000_000)
"""A request without an answer goes to the next validator after so many µs."""

POLL: Final = Micros(15_000_000)
"""Without any head for so long, µs (three heartbeats lost), the follower asks by itself."""


class Follower:
    """One peer's copy of the ledger. At most one request is under way."""

    accepts: tuple[type, ...] = (Head, Blocks)

    def __init__(
        self, genesis: Genesis, validators: Iterable[PeerId] = (), stored_blocks: Sequence[bytes] = ()
    ) -> None:
        """`validators`: whom to ask, in turn; the genesis validators when empty. `stored_blocks[i]` is block i + 1."""
        self._chain = Chain(genesis)
        self._validators = genesis.validator_set
        self._sources = tuple(validators) or self._validators.peers
        self._turn = 0
        self._asked_at: Micros | None = None
        self._heard_at = Micros(0)
        self._tip = 0
        self._chain.replay(stored_blocks)

    @property
    def ledger(self) -> Ledger:
        """The copy, as of `height`."""
        return self._chain.ledger

    @property
    def height(self) -> int:
        """Blocks executed here."""
        return self._chain.height

    @property
    def tip(self) -> int:
        """The newest certified block that we know to exist."""
        return max(self._tip, self.height)

    @property
    def time(self) -> Micros:
        """The ledger clock at `height`, µs."""
        return self._chain.ledger.time

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """A head (certified, or `RemoteViolation`) or the blocks that we asked for."""
        match message:
            case Head():
                return self._head(sender, message, now)
            case Blocks():
                return self._blocks(sender, message, now)
            case _:
                raise LocalError(f"the follower takes no {type(message).__name__}", code="bad_route")

    def tick(self, now: Micros) -> list[Effect]:
        """Ask again when an answer or the heads stay away."""
        if self._asked_at is not None:
            if now - self._asked_at < REQUEST_RETRY:
                return [Wake(Micros(self._asked_at + REQUEST_RETRY))]
            self._turn += 1
            return self._ask(now)
        if now - self._heard_at >= POLL:
            return self._ask(now)
        return [Wake(Micros(self._heard_at + POLL))]

    def _head(self, sender: PeerId, message: Head, now: Micros) -> list[Effect]:
        if message.header.height <= self.tip:
            return []
        verify_certificate(message.header, message.certificate, self._validators, sender)
        self._tip = message.header.height
        self._heard_at = now
        return [] if self._asked_at is not None else self._ask(now)

    def _blocks(self, sender: PeerId, message: Blocks, now: Micros) -> list[Effect]:
        """Execute what follows; a block that does not verify ends the message, and the next validator is asked."""
        before = self.height
        effects: list[Effect] = []
        for block in message.blocks:
            if block.header.height <= self.height:
                continue
            if block.header.height > self.height + 1:  # An answer to what an earlier run of this peer had asked.
                break
            try:
                self._chain.follow(block, sender)
            except RemoteViolation as error:
                effects.append(Fail(error))
                self._turn += 1
                break
        is_progress = self.height > before
        if is_progress:
            effects.append(Emit("followed", {"height": self.height, "time": self.time}))
        if sender not in self._sources:
            return effects
        self._asked_at, self._heard_at = None, now
        if is_progress and self.height < max(self._tip, message.tip):
            return [*effects, *self._ask(now)]
        if self.height < self._tip:
            # This one has no more than we have: the next is asked, but not at once.
            self._asked_at = now
            return [*effects, Wake(Micros(now + REQUEST_RETRY))]
        return [*effects, Wake(Micros(now + POLL))]

    def _ask(self, now: Micros) -> list[Effect]:
        self._asked_at = now
        source = self._sources[self._turn % len(self._sources)]
        return [Send(source, BlocksRequest(self.height + 1)), Wake(Micros(now + REQUEST_RETRY))]
