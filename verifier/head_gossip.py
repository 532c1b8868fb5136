"""Tells everybody of the newest block, but not more often than anybody needs to know."""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.effects import Effect, Publish, Wake
from protocol.identity import Identity
from protocol.messages import Head
from protocol.units import Micros

HEAD_INTERVAL: Final = Micros(200_000)
"""At most one head is gossiped per so many µs: parties have their receipts, followers may lag this much."""


class HeadGossip:
    """Holds the newest head until it may go out."""

    def __init__(self, identity: Identity, network: str) -> None:
        self._identity = identity
        self._network = network
        self._head: Head | None = None
        self._sent_at = Micros(0)

    def announce(self, head: Head, now: Micros) -> list[Effect]:
        """A newer head replaces one that waits."""
        self._head = head
        return self.tick(now)

    def tick(self, now: Micros) -> list[Effect]:
        """Publish what waits, or say when to come back."""
        if self._head is None:
            return []
        if now - self._sent_at < HEAD_INTERVAL:
            return [Wake(Micros(self._sent_at + HEAD_INTERVAL))]
        head, self._head, self._sent_at = self._head, None, now
        return [Publish("heads", wire.sign(self._identity, self._network, "head", head))]
