"""A provider's answers to validators who ask it to open a claim: leaves of its trace first, then the result itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from protocol.effects import Effect, LeaseKey, Send
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.messages import PrefixRequest, Reveal, RevealRequest, UnitsRequest
from protocol.provider_lease import Lease
from protocol.provider_trace import Read, Traces
from protocol.units import PeerId


@dataclass(frozen=True, slots=True)
class Answers:
    """For all leases of one provider. Nobody but a validator is answered."""

    identity: Identity
    validators: Callable[[], Collection[PeerId]]
    leases: Mapping[LeaseKey, Lease]
    traces: Traces
    read: Read

    def units(self, sender: PeerId, message: UnitsRequest) -> list[Effect]:
        """Leaves of a trace, once the claim is ordered: before that a choice of units is nobody's."""
        lease = self._lease(sender, message)
        if lease is None or lease.trace is None:
            return []
        if lease.phase == "claiming":
            lease.trace.early[sender] = message
            return []
        return [Send(sender, lease.trace.answer(sender, message, self.read))]

    def ordered(self, lease: Lease) -> list[Effect]:
        """The claim is ordered: what was asked too early is answered now."""
        early = dict(lease.trace.early) if lease.trace is not None else {}
        return [effect for asker, request in early.items() for effect in self.units(asker, request)]

    def reveal(self, sender: PeerId, message: RevealRequest) -> list[Effect]:
        """The result and its salt, to the validator and to the steward."""
        lease = self._lease(sender, message)
        if lease is None or lease.phase not in ("claiming", "claimed", "revealed") or not lease.output:
            return []
        lease.phase = "revealed"
        openings = lease.trace.behind(sender, self.read) if lease.trace is not None else ()
        reveal = Reveal(*lease.key, lease.output, lease.output_bytes, lease.salt(self.identity), openings)
        return [Send(sender, reveal), Send(lease.steward, reveal)]

    def prefix(self, sender: PeerId, message: PrefixRequest) -> list[Effect]:
        """Two leaves of what an earlier lease committed to, once the claim that names it is ordered; after the verdict
        too, as long as somebody may appeal."""
        lease = self._lease(sender, message)
        if lease is not None and lease.phase not in ("claimed", "revealed"):
            return []
        trace = self.traces.get((message.escrow, message.chunk, message.epoch))
        return [Send(sender, trace.prefix(sender, message, self.read))] if trace is not None else []

    def _lease(self, sender: PeerId, message: UnitsRequest | RevealRequest | PrefixRequest) -> Lease | None:
        if sender not in self.validators():
            raise RemoteViolation(sender, "only a validator may ask for an opening", code="out_of_turn")
        return self.leases.get((message.escrow, message.chunk, message.epoch))
