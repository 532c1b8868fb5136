"""A provider that keeps nothing."""

from __future__ import annotations

from protocol.completions import Completion
from protocol.messages import Message
from protocol.operations import Verdict
from protocol.units import Digest, PeerId
from simulations.adversaries.cheat import Cheat, decided
from simulations.simpeer import SimPeer


class FreeRidingHolder(Cheat):
    """Serves its outputs to validators only, and deletes them as soon as the verdict has paid it.

    The protocol has no holders of shards yet. This is today's form: a provider owes the renter the output, and after
    the verdict nothing binds it any more.
    Hopes for: upload and disk of every output but one copy. What should stop it: a result counts only when a judge has
    it whole and hands it on, and the steward asks validators after the provider. So the renter gets the output, the
    validators carry the upload, and nobody notices the rider: it stays in good standing.
    Source: verification attacks 36 and 37; Hughes, Coulson and Walkerdine, "Free Riding on Gnutella Revisited", 2005.
    """

    role = "provider"

    def serves(self, peer: SimPeer, digest: Digest, asker: int, now: int) -> bool:
        if self.world.peers[asker].role == "validator":
            return True
        self.did("not_served")
        return False

    def hears(self, peer: SimPeer, sender: PeerId, message: Message | Completion, now: int) -> bool:
        library = self.world.library
        for operation, _, outcome in decided(message):
            if not isinstance(operation, Verdict) or outcome is None or outcome.status != "applied":
                continue
            digest = Digest(operation.output)
            if operation.outcome == "accept" and library.has(peer.index, digest):
                for file, size in library.files(digest):
                    self.did("bytes_dropped", size)
                    library.drop(peer.index, file)
                library.drop(peer.index, digest)
                self.did("dropped")
        return True
