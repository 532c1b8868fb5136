"""One history: equal roots at equal height on all honest replicas (I9), one certified header per height (I8)."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Final

from protocol.effects import Effect
from protocol.messages import Blocks, Header, Proposal, Receipts, Submit, Vote
from protocol.units import Digest
from simulations.checkers.checker import Checker
from simulations.scenario import Check
from simulations.subject import Subject, is_honest

GROWERS: Final = frozenset((Submit, Vote, Proposal, Blocks, type(None)))
"""What can make a replica a block longer."""


class Agreement(Checker):
    """Compares as replicas grow, and byte by byte at the end."""

    name: ClassVar[Check] = "agreement"

    def __init__(self) -> None:
        super().__init__()
        self._grown: dict[int, tuple[int, Digest, int]] = {}
        """By peer: newest height, its root, and the boot. Counts from the next sign of life of that boot on: before
        that the block may not have reached the disk, and nobody has heard of it."""
        self._roots: dict[int, tuple[Digest, int]] = {}
        """Height -> (state root, the peer that had it first)."""
        self._headers: dict[int, tuple[Header, int]] = {}
        """Height -> (certified header, the peer that sent it first)."""

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        if type(cause) not in GROWERS or not is_honest(peer):
            return
        replica, index = peer.machines.replica, peer.index
        ledger, grown = replica.ledger, self._grown.get(index)
        if grown is not None and ledger.height == grown[0] and peer.boots == grown[2]:
            return
        self._compare(peer, now)
        if ledger.height == replica.height:  # Otherwise it is a draft that no quorum has certified yet.
            self._grown[index] = (ledger.height, ledger.root, peer.boots)

    def _compare(self, peer: Subject, now: int) -> None:
        height, root, boot = self._grown.get(peer.index, (0, Digest(b""), 0))
        if boot != peer.boots:
            return
        known = self._roots.setdefault(height, (root, peer.index))
        if known[0] != root:
            self.fail(
                f"block {height} left root {root.hex()[:16]}, at peer {known[1]} {known[0].hex()[:16]}", peer.index, now
            )

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        kind = type(message)
        if kind is Receipts:
            assert isinstance(message, Receipts)
            self._header(message.header, source, now)
        elif kind is Blocks:
            assert isinstance(message, Blocks)
            for block in message.blocks:
                self._header(block.header, source, now)

    def finished(self, now: int) -> None:
        """Equal heights, equal bytes: accounts, escrows, leases, lanes, what is due."""
        states: dict[int, tuple[bytes, int]] = {}
        for index, peer in enumerate(self.peers):
            if not peer.is_up or not is_honest(peer):
                continue
            replica = peer.machines.replica
            self._compare(peer, now)
            if replica.ledger.height != replica.height:
                continue
            state = hashlib.sha256(replica.ledger.encode()).digest()
            known = states.setdefault(replica.height, (state, index))
            if known[0] != state:
                self.fail(f"at height {replica.height} the state differs from peer {known[1]}'s", index, now)

    def _header(self, header: Header, source: int, now: int) -> None:
        known = self._headers.get(header.height)
        if known is None:
            if is_honest(self.peers[source]):
                self._headers[header.height] = (header, source)
        elif known[0] is not header and known[0] != header and is_honest(self.peers[source]):
            names = [name for name in Header.__struct_fields__ if getattr(header, name) != getattr(known[0], name)]
            self.fail(
                f"two certified blocks {header.height}: {', '.join(names)} differ from peer {known[1]}'s", source, now
            )
