"""One statement on its way through the network: who has it, since when, over how many hops."""

from __future__ import annotations

from array import array


class Spread:
    """State of one statement at all peers, 10 bytes per peer; it is dropped when no cache holds it any more."""

    __slots__ = (
        "at",
        "born",
        "has",
        "hops",
        "is_valid",
        "last",
        "missing",
        "number",
        "origin",
        "payload",
        "size",
        "topic",
    )

    def __init__(self, number: int, topic: int, origin: int, payload: object, size: int, is_valid: bool) -> None:
        self.number = number
        self.topic = topic
        self.origin = origin
        self.payload = payload
        self.size = size
        self.is_valid = is_valid
        self.born = 0
        """When it was published, ns."""
        self.last = 0
        """When the last peer so far received it, ns."""
        self.missing = 0
        """Peers that are up and have not got it."""
        self.has = bytearray()
        """1: the peer has received and accepted it."""
        self.at = array("q")
        """Time by which the peer certainly has it: of reception, or of the earliest copy under way; 0: nothing yet."""
        self.hops = bytearray()

    def begin(self, peers: int, missing: int, now: int) -> None:
        """Published now, among so many peers of which so many are up."""
        self.born = self.last = now
        self.missing = missing
        self.has = bytearray(peers)
        self.hops = bytearray(peers)
        self.at = array("q", bytes(8 * peers))

    def forget(self, peer: int, is_up: bool) -> None:
        """The peer lost its memory: it went (is_up False), or came back (True) and can receive again."""
        if peer >= len(self.has):
            grown = peer + 1 - len(self.has)
            self.has.extend(bytes(grown))
            self.hops.extend(bytes(grown))
            self.at.extend(array("q", bytes(8 * grown)))
        if is_up:
            self.missing += 1
        elif not self.has[peer]:
            self.missing -= 1
        self.has[peer] = 0
        self.hops[peer] = 0
        self.at[peer] = 0
