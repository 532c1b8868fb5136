"""Providers that hand in what somebody else has computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from protocol import wire
from protocol.completions import Completion
from protocol.effects import Run
from protocol.messages import Message
from protocol.operations import Verdict
from protocol.units import Digest, PeerId
from simulations.adversaries.cheat import Cheat, decided, lease_of, spec_digest
from simulations.adversaries.proof_forger import FORGE_NS
from simulations.proving import Result
from simulations.simpeer import SimPeer

if TYPE_CHECKING:
    from simulations.world import World

REQUEST_BYTES: Final = 64
"""Bytes of a request for a blob."""

Step = tuple[bytes, int]
"""Specification and chunk: what a result is the result of."""


class ResultCopier(Cheat):
    """Copies a result that was opened before, of the same chunk in an earlier epoch or of the same specification.

    Hopes for: the pay of a chunk without its computing, with a result that passes every audit. Nobody can copy a claim:
    it is sealed with salt and the provider's key, and the opening goes only to validators and the steward. What is
    left: a verdict is public, and one that condemns names the auditor's output, the true one. So a pair works: the
    `bait` (that many of the gang; the rest copy) forges a chunk, the audit computes it, and a copier that gets the
    chunk in the next epoch claims the auditor's result. It need not even hold the bytes: the judge does.
    What should stop it: bait is barred from the job after one lie and pays 10 % of the price; others bid for the chunk.
    Source: verification attacks 18 and 19; Golle and Mironov, "Uncheatable Distributed Computations", 2001.
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"bait": 0}

    def enter(self, world: World, peer: SimPeer) -> None:
        super().enter(world, peer)
        gang = self.accomplices()
        first = gang[0].strategy
        assert isinstance(first, ResultCopier)
        self.is_bait = gang.index(peer) < self.option("bait")
        self.opened: dict[Step, Digest] = {} if first is self else first.opened
        """What the gang has learned of true results."""

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        escrows = peer.machines.ledger.escrows
        for operation, _, outcome in decided(message):
            if not isinstance(operation, Verdict) or (outcome is not None and outcome.status != "applied"):
                continue
            escrow = escrows.get(operation.escrow)
            if escrow is not None and operation.outcome in ("accept", "wrong"):
                self.opened.setdefault((escrow.spec, operation.chunk), Digest(operation.evidence))
        return True

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        lease = lease_of(peer, run)
        if lease is None:
            return honest
        if self.is_bait:
            self.took(lease, "bait", honest.time)
            return Result(wire.encode(("bait", peer.name, run.task)), FORGE_NS)
        known = self.opened.get((spec_digest(run), run.chunk))
        time = self._fetched(peer, known, now) if known is not None else 0
        if time <= 0 or time >= honest.time:
            return honest
        self.took(lease, "copied", honest.time - time)
        return Result(honest.content, time)  # The bytes behind `known`: equal contents have one digest.

    def _fetched(self, peer: SimPeer, digest: Digest, now: int) -> int:
        """How long it takes to get the blob from a validator that has it, ns; -1: nobody has."""
        library, network = self.world.library, self.world.network
        for holder in self.world.peers:
            if holder.role == "validator" and holder.is_up and library.has(holder.index, digest):
                asked = network.arrival(peer.index, holder.index, REQUEST_BYTES, now)
                size = sum(size for _, size in library.files(digest))
                there = network.arrival(holder.index, peer.index, size, asked) if asked >= 0 else -1
                return there - now if there >= 0 else -1
        return -1
