"""How chunks become leases: bids in, grants out, countersignatures make them operations. Spec: specs/14-steward.md.

One `Leasing` per job; what it knows is gone after a restart and comes back with the next bids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET

from protocol import handover, operations, wire
from protocol.completions import Examined
from protocol.desk import Desk
from protocol.effects import Compute, Effect, Emit, LetGo, Send, Wake
from protocol.errors import RemoteViolation
from protocol.escrow_state import ChunkLease
from protocol.examination import Examinations
from protocol.granting import COLLATERAL_PPM, LEDGER_BEHIND, Bidder, choose, lease, watchers, with_evidence
from protocol.handover import HandoverAnswer, HandoverProposal
from protocol.identity import is_signed_by
from protocol.job_record import ChunkRecord, JobRecord
from protocol.messages import Accept, Bid, Decline, Grant, InputsNotice, Unwatch, Watch
from protocol.operations import Assign, Fence, Signature, SignedOp
from protocol.succession import STANDBY_AFTER, Succession, job_secret
from protocol.units import MINUTE, PPM, SECOND, Digest, JobId, Micros, PeerId

GRANT_TIMEOUT: Final = Micros(5 * SECOND)
"""Microseconds a provider has to countersign: several round trips, then the chunk goes to another."""

REST: Final = Micros(10 * SECOND)
"""Microseconds before a provider that declined or stayed silent is asked again."""

ASK_AGAIN: Final = Micros(250_000)
"""Microseconds before a provider is asked again whose copy of the ledger was behind: about a block."""

WATCH_AFTER: Final = Micros(500_000)
"""Microseconds after which a lease is worth watching: shorter ones are over before a watcher could judge."""

WATCH_AGAIN: Final = Micros(15 * SECOND)
"""Microseconds until the watchers of a lease are asked again: one that was cut off has heard nothing."""

STANDBY_CUT: Final = Micros(5 * SECOND)
"""Microseconds without a connection after which another stands by: an interruption is mended by then, and a process
that is brought to its first loop for nothing costs no more than its start."""

FENCE_VOTES: Final = 2
"""Watchers that must agree: a majority of three (architecture §7)."""


@dataclass(slots=True)
class OpenGrant:
    """A lease offered and not yet countersigned."""

    chunk: int
    provider: PeerId
    assign: Assign
    op: SignedOp
    until: Micros


@dataclass(slots=True)
class LiveLease:
    """A lease that the ledger ordered and nothing has ended yet."""

    assign: Assign
    signed: SignedOp
    since: Micros
    asked: Micros | None = None
    """When its watchers were last asked to listen."""


class Leasing:
    """Bids, grants, leases and fences of one job."""

    def __init__(self, record: JobRecord, desk: Desk) -> None:
        self._record = record
        self._desk = desk
        self.bidders: dict[PeerId, Bidder] = {}
        self._grants: dict[Digest, OpenGrant] = {}
        self._attests: dict[tuple[int, int], dict[bytes, Signature]] = {}
        self.succession = Succession(record, desk.identity, desk.network)
        self.examinations = Examinations(record, job_secret(desk.identity, record.job))
        self._live: dict[int, LiveLease] = {}
        self.withheld: set[int] = set()
        """Chunks that nobody is given: their result is on its way here (`overturned.Rescue`)."""
        self._cut: dict[PeerId, Micros] = {}
        """Standbys to whom no connection is left, and since when."""

    def bid(self, provider: PeerId, bid: Bid, now: Micros) -> list[Effect]:
        """A provider wants chunks; a newer bid replaces its older one."""
        record = self._record
        if provider in record.barred or bid.price_per_hour > record.spec.price_per_hour_max:
            return []
        if not self._desk.suits(record.spec, provider, now):
            return []
        known = self.bidders.get(provider)
        if known is None:
            self.bidders[provider] = Bidder(provider, bid)
            self._recount(provider)
        else:
            known.bid = bid
        return self.offer_open(now)

    def offer_open(self, now: Micros) -> list[Effect]:
        """Offer every chunk that is open to the best free bidder."""
        effects: list[Effect] = []
        rank, asked = self._desk.ranks(self._record.spec, now), self._reachable()
        for chunk in self._record.open_chunks():
            if chunk.index in self.withheld:
                continue
            preferred = self.succession.standby(chunk.index)
            bidder = choose(asked, chunk.index, now, rank, self._desk.random, preferred)
            if bidder is None:
                if not any(other.is_free(now) for other in self.bidders.values()):
                    break
                continue
            effects += self._grant(chunk, bidder, now)
        return effects

    def _reachable(self) -> list[Bidder]:
        """Bidders to whom there is a connection: a dead one would cost GRANT_TIMEOUT, one that lives answers the next
        notice, and is connected by that."""
        return [one for one in self.bidders.values() if not self._desk.is_cut(one.provider)]

    def _grant(self, chunk: ChunkRecord, bidder: Bidder, now: Micros) -> list[Effect]:
        desk, record = self._desk, self._record
        idle = (one for one in self.bidders.values() if one.provider != bidder.provider and one.is_free(now))
        standby = next((one.provider for one in idle if not desk.is_cut(one.provider)), None)
        listeners = watchers(desk.identity.peer, bidder.provider, desk.peers(now), standby, desk.random)
        assign = lease(
            record.escrow, chunk.index, chunk.epoch + 1, bidder, record.spec, listeners, desk.client.ledger_now(now)
        )
        known = self._on_ledger(chunk.index)
        if known is not None and known.done_ppm:  # The rest of it is paid for; the dearest share was pended before.
            price = operations.remaining_price(assign.price, known.done_ppm)
            assign = msgspec.structs.replace(assign, price=price, collateral=price * COLLATERAL_PPM // PPM)
        if assign.evidence:
            assign = with_evidence(assign, self._spare(chunk, assign.price))
        op = operations.signed_op(desk.network, assign, desk.identity)
        self._grants[op.op_id] = OpenGrant(chunk.index, bidder.provider, assign, op, Micros(now + GRANT_TIMEOUT))
        called_off = self.succession.choose(chunk.index, standby, bidder.provider)
        self._recount(bidder.provider)
        chunk.state, chunk.provider = "granted", bidder.provider
        outputs, sources = self._inputs(chunk.index)
        grant = Grant(JobId(record.job), op, outputs, sources, (standby,) if standby else ())
        filled = self.succession.fill(chunk, grant, bidder.provider)
        return [*called_off, Send(bidder.provider, filled), Wake(Micros(now + GRANT_TIMEOUT))]

    def _spare(self, chunk: ChunkRecord, price: int) -> int:
        """What the escrow holds beyond all prices to come: evidence against a cheat must not use up honest pay."""
        others = sum(one.state == "waiting" for one in self._record.chunks if one is not chunk)
        granted = sum(one.assign.price + (one.assign.evidence or 0) for one in self._grants.values())
        held = self._desk.ledger().available("E", self._record.escrow)
        return max(0, held - price - granted - others * self._record.chunk_price_max)

    def _on_ledger(self, index: int) -> ChunkLease | None:
        escrow = self._desk.ledger().escrows.get(self._record.escrow)
        return escrow.chunks.get(index) if escrow is not None else None

    def hand_over(self, provider: PeerId, proposal: HandoverProposal, now: Micros) -> list[Effect]:
        """A provider leaves and says how far it came. Signed and ordered where its newest durable snapshot bears it
        out, and, of a chunk with units, can be gone on from; else it hears why not, or not yet."""
        desk, record = self._desk, self._record
        operation = handover.opened(desk.network, provider, proposal)
        known = self._on_ledger(operation.chunk)
        if known is None or known.provider != provider:
            raise RemoteViolation(provider, "a handover is of the sender's own lease", code="not_provider")
        chunk, looked = record.chunks[operation.chunk], list[Effect]()
        snapshot, units = self.succession.newest(chunk), record.spec.units_of(operation.chunk)
        code = handover.review(operation, known, snapshot, record.spec.estimate, desk.client.ledger_now(now), units)
        if not code and units:
            resume = self.succession.resume(chunk)
            code, looked = self.examinations.ask(provider, proposal, operation, resume, now)
        standby = self.succession.standby(operation.chunk)
        to = (standby,) if standby is not None and not code else ()
        answer = HandoverAnswer(operation.escrow, operation.chunk, operation.epoch, code, to)
        if code:
            return [Send(provider, answer), *looked]
        signed = handover.countersigned(desk.identity, desk.network, provider, proposal)
        return [Send(provider, answer), *desk.client.submit(signed, now)]

    def examined(self, message: Examined, now: Micros) -> list[Effect]:
        """A snapshot was opened, or not: what waited for it is answered."""
        done = self.examinations.done(message, now)
        if done is None:
            return [Compute(LetGo(message.kept))] if message.kept else []
        chunk = self._record.chunks[message.lease[1]]
        told = {**self._record.fields(chunk), "code": message.code, "detail": message.detail}
        known = self._on_ledger(chunk.index)
        is_its = known is not None and known.provider == done.provider
        return [Emit("examined", told), *(self.hand_over(done.provider, done.proposal, now) if is_its else [])]

    def _inputs(self, index: int) -> tuple[tuple[bytes, ...], tuple[PeerId, ...]]:
        """What the step reads besides the specification's files, and who has it."""
        count = len(self._record.spec.chunks)
        outputs = tuple(chunk.output for chunk in self._record.chunks[:count]) if index == count else ()
        return outputs, (self._desk.identity.peer,)

    def holds_grant(self, op: Digest) -> bool:
        """True while this lease is offered and undecided."""
        return op in self._grants

    def accept(self, sender: PeerId, message: Accept, now: Micros) -> list[Effect]:
        """The provider countersigned: order the lease."""
        grant = self._grants.get(Digest(message.op))
        if grant is None:
            return []
        body = wire.signing_bytes(self._desk.network, "op", grant.op.body)
        signer = PeerId(message.signature.signer)
        if sender != grant.provider or signer != sender or not is_signed_by(signer, body, message.signature.signature):
            raise RemoteViolation(sender, "countersignature is not the named provider's", code="bad_signature")
        grant.until = Micros(now + MINUTE)
        both = SignedOp(grant.op.body, (*grant.op.signatures, message.signature))
        outputs, sources = self._inputs(grant.chunk)
        record, assign = self._record, grant.assign
        inputs = InputsNotice(
            assign.escrow,
            assign.chunk,
            assign.epoch,
            record.spec_digest,
            record.spec_size,
            outputs,
            (*sources, grant.provider),
        )
        told: list[Effect] = [Send(peer, inputs) for peer in self._desk.client.peers]
        return [*told, *self._desk.client.submit(both, now)]

    def decline(self, sender: PeerId, message: Decline, now: Micros) -> list[Effect]:
        """The provider does not want it: somebody else."""
        grant = self._grants.get(Digest(message.op))
        if grant is None or grant.provider != sender:
            return []
        self.ungrant(Digest(message.op), now, ASK_AGAIN if message.code == LEDGER_BEHIND else REST)
        return self.offer_open(now)

    def ungrant(self, op: Digest, now: Micros, rest: Micros = REST) -> None:
        """The provider will not have it; the chunk is open again."""
        grant = self._grants.pop(op)
        chunk = self._record.chunks[grant.chunk]
        bidder = self.bidders.get(grant.provider)
        self._recount(grant.provider)
        if bidder is not None:
            bidder.rests_until = Micros(now + rest)
        if chunk.state == "granted":
            chunk.state, chunk.provider = "waiting", b""

    def _recount(self, provider: PeerId) -> None:
        """What a bidder holds, from what is open and what lives: a sum kept by hand goes wrong with lost messages."""
        bidder = self.bidders.get(provider)
        if bidder is not None:
            granted = sum(1 for grant in self._grants.values() if grant.provider == provider)
            bidder.leased = granted + sum(1 for live in self._live.values() if live.assign.provider == provider)

    def started(self, assign: Assign, op: Digest, signed: SignedOp, now: Micros) -> None:
        """The ledger ordered a lease; ours, or one that we forgot in a restart."""
        self._grants.pop(op, None)
        before = self._live.get(assign.chunk)
        self._live[assign.chunk] = LiveLease(assign, signed, now)
        self._recount(PeerId(assign.provider))
        if before is not None:
            self._recount(PeerId(before.assign.provider))

    def resumed(self, known: ChunkLease, now: Micros) -> None:
        """A lease of before a restart, as the ledger has it. Its watchers are asked again: they may never have been."""
        if known.chunk in self._live:
            return
        assign = Assign(
            escrow=self._record.escrow,
            chunk=known.chunk,
            epoch=known.epoch,
            provider=known.provider,
            price=known.price,
            collateral=known.collateral,
            claim_by=known.claim_by,
            verdict_by=known.verdict_by,
            watchers=known.watchers,
            evidence=known.evidence or UNSET,
        )
        self._grants.pop(Digest(known.assign), None)
        self._live[known.chunk] = LiveLease(
            assign, operations.signed_op(self._desk.network, assign, self._desk.identity), now
        )
        self._recount(PeerId(known.provider))
        others = [PeerId(peer) for peer in known.watchers if peer not in (self._desk.identity.peer, known.provider)]
        self.succession.choose(known.chunk, others[0] if others else None, PeerId(known.provider))

    def refused(self, op: Digest, now: Micros) -> bool:
        """The ledger refused a lease. True when it was one of ours."""
        if op not in self._grants:
            return False
        self.ungrant(op, now)
        return True

    def ended(self, chunk: ChunkRecord, end: str, now: Micros) -> list[Effect]:
        """A lease is over: free its place, close its attempt, call the watchers off."""
        if chunk.attempts and not chunk.attempts[-1].end:
            chunk.attempts[-1].end, chunk.attempts[-1].ended = end, now
            chunk.exposed = ""
        live, over = self._live.pop(chunk.index, None), self.examinations.ended(chunk.index)
        if live is not None:
            self._recount(PeerId(live.assign.provider))
        if live is None or live.asked is None:
            return over
        gone = Unwatch(live.assign.escrow, chunk.index, live.assign.epoch)
        return [*over, *(Send(PeerId(peer), gone) for peer in live.assign.watchers)]

    def blame(self, chunk: ChunkRecord, why: str, is_job_fault: bool, now: Micros) -> None:
        """Remember at whom a chunk was lost, so that another is preferred for it."""
        for provider in self._record.barred:
            self.bidders.pop(PeerId(provider), None)
        bidder = self.bidders.get(PeerId(chunk.provider))
        if bidder is None:
            return
        bidder.failed.add(chunk.index)
        if why == "dead":
            del self.bidders[bidder.provider]
        elif not is_job_fault:
            bidder.rests_until = Micros(now + REST)

    def attest(self, sender: PeerId, fence: Fence, signature: Signature, now: Micros) -> list[Effect]:
        """A watcher says dead. Two of three make it so. One that watches what is over is called off again."""
        live, chunk = self._live.get(fence.chunk), self._record.chunks[fence.chunk]
        is_over = fence.epoch < chunk.epoch or (fence.epoch == chunk.epoch and not chunk.is_leased)
        if is_over or self._record.is_final:
            return [Send(sender, Unwatch(fence.escrow, fence.chunk, fence.epoch))]
        if live is None or live.assign.epoch != fence.epoch or sender not in live.assign.watchers:
            return []
        signatures = self._attests.setdefault((fence.chunk, fence.epoch), {})
        signatures[sender] = signature
        if len(signatures) < min(FENCE_VOTES, len(live.assign.watchers)):
            return []
        body = wire.encode(fence)
        return self._desk.client.submit(SignedOp(body, tuple(signatures[key] for key in sorted(signatures))), now)

    def tick(self, now: Micros) -> list[Effect]:
        """Grants that nobody answered, leases that live long enough to be watched."""
        for op, grant in list(self._grants.items()):
            if grant.until <= now:
                self.ungrant(op, now)
        effects: list[Effect] = []
        for live in self._live.values():
            if now >= (live.since + WATCH_AFTER if live.asked is None else live.asked + WATCH_AGAIN):
                live.asked = now
                effects += [Send(PeerId(peer), Watch(live.signed)) for peer in live.assign.watchers]
        return [*effects, *self._stand_by(now)]

    def lacks_standby(self, now: Micros) -> bool:
        """Whether a chunk runs behind which nobody stands, and nobody is known who could."""
        return self._record.spec.is_protected and any(
            now >= live.since + STANDBY_AFTER and self.succession.standby(index) is None
            for index, live in self._live.items()
        )

    def _cut_off(self, now: Micros) -> set[PeerId]:
        """Standbys that have not been connected for a while."""
        standbys = {self.succession.standby(index) for index in self._live}
        cut = [peer for peer in standbys if peer is not None and self._desk.is_cut(peer)]
        self._cut = {peer: self._cut.get(peer, now) for peer in cut}
        return {peer for peer, since in self._cut.items() if now >= since + STANDBY_CUT}

    def _stand_by(self, now: Micros) -> list[Effect]:
        """Somebody gets ready behind every lease that lives long enough."""
        if not self._live or not self._record.spec.is_protected:
            return []
        there = set(self._desk.peers(now))

        def spare(assign: Assign) -> PeerId | None:
            free = (
                bidder.provider
                for bidder in self.bidders.values()
                if bidder.provider != assign.provider and bidder.provider in there and bidder.has_room(now)
            )
            return next((peer for peer in free if not self._desk.is_cut(peer)), None)

        gone = self._cut_off(now)
        live = {
            index: (one.assign, one.since, lambda peer: peer in gone or peer not in there)
            for index, one in self._live.items()
        }
        return self.succession.tick(live, spare, now)
