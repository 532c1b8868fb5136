"""The provider: bids for chunks, signs leases, executes, seals, reveals, is paid. Spec: specs/15-provider.md.

Work starts only behind a lease that the ledger ordered and whose receipt this peer verified itself. A lease ends by a
verdict, by giving it back (`Surrender`), or by being fenced; every ending is the ledger's word, not the steward's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from protocol import operations, secret_box, succession, wire
from protocol import provider_inheritance as inheritance
from protocol.bidding import Bidding, Counter, lease_slots
from protocol.completions import Completion, Fetched, FetchFailed, Guest, Recovering, RunDone, RunLog, RunStarted
from protocol.effects import Compute, Effect, Emit, LeaseKey, Send, Stop, Store, Wake
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.granting import LEDGER_BEHIND, chunk_price
from protocol.identity import Identity
from protocol.jobspec import JobSpec
from protocol.ledger import operation_decoder
from protocol.ledger_client import LedgerClient, Ordered
from protocol.messages import (
    Accept,
    CancelChunk,
    Decline,
    Grant,
    JobNotice,
    Message,
    PrefixRequest,
    RevealRequest,
    UnitsRequest,
)
from protocol.operations import Assign, Claim, Fence, Found, Handover, Surrender, Verdict
from protocol.provider_lease import Guards, Lease, comes_free, is_behind_longer, is_offered_by
from protocol.provider_opening import Answers
from protocol.provider_trace import Traces, committed
from protocol.snapshots import StandbyChange
from protocol.units import SECOND, Digest, Micros, PeerId

BEAT_INTERVAL: Final = Micros(1 * SECOND)
"""Microseconds between beats (architecture §4)."""

COUNTERSIGNED_FOR: Final = Micros(30 * SECOND)
"""Microseconds that a countersigned lease may wait for its receipt before the slot is used for something else."""


VERDICTS: Final = frozenset(get_args(Found))
"""Ends of a lease that judges have put on it."""


class Provider:
    """Sells this host's time."""

    accepts: tuple[type, ...] = (
        JobNotice,
        Grant,
        CancelChunk,
        UnitsRequest,
        PrefixRequest,
        RevealRequest,
        Fetched,
        FetchFailed,
        RunStarted,
        RunLog,
        RunDone,
        Guest,
        Recovering,
        StandbyChange,
    )

    def __init__(self, identity: Identity, network: str, client: LedgerClient, counter: Counter) -> None:
        self._identity = identity
        self._network = network
        self._client = client
        self._counter = counter
        self.leases: dict[tuple[bytes, int, int], Lease] = {}
        self.guards = Guards()
        self.traces = Traces()
        self._answers = Answers(identity, lambda: client.peers, self.leases, self.traces, counter.read_blob)
        self.awaited: Callable[[], set[bytes]] = set
        """Jobs for which this peer stands by."""
        self._bidding = Bidding(counter)
        self._beat_at = Micros(0)
        self.is_draining = False

    @property
    def running(self) -> int:
        """Leases that use a slot now."""
        return sum(1 for lease in self.leases.values() if lease.phase == "running")

    @property
    def slots_free(self) -> int:
        """Slots without work, as the offer says them."""
        busy = sum(lease.is_at_work for lease in self.leases.values())
        return max(0, self._counter.offer().slots - busy)

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case JobNotice():
                is_unwanted = self.is_draining or sender == self._identity.peer  # One key cannot sign a lease twice.
                return [] if is_unwanted else self._bidding.noticed(sender, message, now)
            case Fetched(digest=digest):
                return self._bidding.fetched(digest, now)
            case FetchFailed():
                return []
            case Grant():
                return self._granted(sender, message, now)
            case CancelChunk():
                return self._cancelled(sender, message, now)
            case UnitsRequest():
                return self._answers.units(sender, message)
            case PrefixRequest():
                return self._answers.prefix(sender, message)
            case RevealRequest():
                return self._answers.reveal(sender, message)
            case RunStarted() | RunLog() | RunDone():
                return self._ran(message, now)
            case Guest() | Recovering():
                return self._heard(message, now)
            case StandbyChange():
                return self._standby_changed(sender, message)
            case _:
                raise AssertionError(f"{type(message).__name__} is not for the provider")

    def phase(self, job: bytes, chunk: int) -> str:
        """How far the own lease of a chunk is; empty when there is none."""
        found = (lease.phase for lease in self.leases.values() if (lease.job, lease.assign.chunk) == (job, chunk))
        return next(found, "")

    def job(self, job: bytes) -> tuple[JobNotice, PeerId, JobSpec] | None:
        """What is known of a job that somebody offers: its notice, its steward, its specification."""
        return self._bidding.known(job)

    # ── leases ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _granted(self, steward: PeerId, grant: Grant, now: Micros) -> list[Effect]:
        operation = wire.decode(grant.assign.body, operation_decoder, steward)
        op = grant.assign.op_id
        known = self._bidding.known(grant.job)
        if (
            not isinstance(operation, Assign)
            or operation.provider != self._identity.peer
            or not is_offered_by(steward, self._network, grant.assign)
        ):
            raise RemoteViolation(
                steward, "a grant holds an assign to its receiver, signed by its sender", code="malformed"
            )
        if known is None or known[1] != steward or known[0].escrow != operation.escrow:
            return [Send(steward, Decline(op, "unknown_job"))]
        spec = known[2]
        refusal = self._refusal(operation, spec, PeerId(known[0].renter), now)
        others, slots = self.leases.values(), self._counter.offer().slots
        is_late = not comes_free(others, slots, now) if grant.resume else is_behind_longer(spec, others, slots)
        if not refusal and is_late:
            refusal = "busy"
        if refusal:
            return [Send(steward, Decline(op, refusal))]
        key = (operation.escrow, operation.chunk, operation.epoch)
        self.leases[key] = Lease(
            op,
            operation,
            grant.job,
            steward,
            PeerId(known[0].renter),
            spec,
            tuple(Digest(item) for item in grant.outputs),
            (*(PeerId(item) for item in grant.sources), steward),
            "countersigned",
            now,
            standby=PeerId(grant.standby[0]) if grant.standby else None,
            secret=secret_box.unseal(self._identity, steward, op, grant.secret) if grant.secret else b"",
            resume=succession.resume_of(steward, grant),
        )
        signature = operations.sign_op(self._identity, self._network, grant.assign.body)
        stored = Store(f"lease/{op.hex()}", wire.encode((operation.escrow, operation.chunk, operation.epoch)))
        return [stored, Send(steward, Accept(op, signature)), Wake(Micros(now + BEAT_INTERVAL))]

    def _refusal(self, assign: Assign, spec: JobSpec, renter: PeerId, now: Micros) -> str:
        """Why this provider would not sign; '' = it signs."""
        offer = self._counter.offer()
        if self.is_draining:
            return "draining"
        if (assign.escrow, assign.chunk, assign.epoch) in self.leases:
            return "duplicate"
        taken = sum(lease.is_at_work for lease in self.leases.values())
        if taken >= 2 * lease_slots(offer.slots, spec.estimate):
            return "busy"
        full = chunk_price(offer.price_per_hour, spec.estimate)
        if full > assign.price and self._counter.is_behind(assign):
            return LEDGER_BEHIND
        if assign.price < operations.remaining_price(full, self._counter.done_ppm(assign)):
            return "price_too_low"
        if assign.claim_by < self._client.ledger_now(now) + spec.timeout:
            return "deadline_too_near"
        return "" if self._counter.exclusion(spec, renter, now) is None else "does_not_fit"

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        """The ledger decided something about one of our leases."""
        operation = event.operation
        if not isinstance(operation, (Assign, Claim, Verdict, Surrender, Fence, Handover)):
            return []
        lease = self.leases.get((operation.escrow, operation.chunk, operation.epoch))
        if lease is None:
            return []
        match operation:
            case Assign() if event.outcome.op != lease.op:
                return []
            case Assign() if event.is_applied and lease.phase == "countersigned":
                lease.phase, lease.since = "waiting", now
                return (
                    self._surrender(lease, "given back before it began", now) if lease.is_unwanted else self._start(now)
                )
            case Claim() if all(item.signer != self._identity.peer for item in event.signed.signatures):
                return []  # A stranger's: refused, and none of our business.
            case Claim() if event.is_applied and lease.phase == "claiming":
                lease.phase = "claimed"
                return self._answers.ordered(lease)
            case Verdict() if event.is_applied:
                return self._judged(lease, operation.outcome, operation.code, event.header.time, now)
            case _ if event.is_applied or isinstance(operation, (Assign, Claim)):
                return self._drop(
                    lease, event.outcome.code if not event.is_applied else type(operation).__name__.lower(), now
                )
            case _:
                return []

    def _start(self, now: Micros) -> list[Effect]:
        """Give free slots to waiting leases: what is half done before the rest, the oldest first."""
        effects: list[Effect] = []
        for lease in sorted(self.leases.values(), key=lambda lease: lease.resume is None):
            if lease.phase == "waiting" and not lease.is_unwanted and self.running < self._counter.offer().slots:
                effects += [*inheritance.check(lease, self._network, self._counter.ledger()), *lease.begin(now)]
        return effects

    def _ran(self, message: RunStarted | RunLog | RunDone, now: Micros) -> list[Effect]:
        lease = next((item for item in self.leases.values() if item.task == message.task), None)
        if lease is None or lease.phase != "running":
            return []
        match message:
            case RunStarted():
                lease.is_started = True
                return [Send(lease.steward, lease.beat()), *self.guards.began(lease, now)]
            case RunLog(lines=lines):
                return lease.said(lines)
            case RunDone(reason="ok"):
                return lease.checking(message) or self._computed(lease, lease.result or message, now)
            case RunDone(reason=reason, exit_code=code, detail=detail):
                what = detail if lease.result is None else f"the job's own check: {detail}"
                why = f"{reason}: {what}" if reason != "exit" else f"exit {code}: {what}"
                return self._surrender(lease, why, now)

    def _computed(self, lease: Lease, done: RunDone, now: Micros) -> list[Effect]:
        """Claim what came out; give back what cannot be claimed."""
        if lie := lease.misled(self._counter.ledger()):
            return self._surrender(lease, lie, now)
        kept: list[Effect] = []
        if lease.units:
            try:
                read, me = self._counter.read_blob, self._identity.peer
                lease.trace = committed(done.trace, lease.units, me, read, inheritance.of(lease, done))
            except (Refused, RemoteViolation, Unavailable) as error:
                return self._surrender(lease, f"trace: {error.detail}", now)
            kept = self.traces.keep(lease.key, lease.trace, lease.assign.verdict_by)
        lease.phase, lease.since, lease.output, lease.output_bytes = "claiming", now, done.output, done.output_bytes
        signed = operations.signed_op(self._network, lease.claim(self._identity), self._identity)
        return [*kept, *self.guards.ended(lease, now), *self._client.submit(signed, now), *self._start(now)]

    def _surrender(self, lease: Lease, why: str, now: Micros) -> list[Effect]:
        lease.phase = "claiming"
        body = Surrender(*lease.key, why[:128])
        submitted = self._client.submit(operations.signed_op(self._network, body, self._identity), now)
        return [*self.guards.ended(lease, now), *submitted, *self._start(now)]

    # ── protection ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _heard(self, message: Guest | Recovering, now: Micros) -> list[Effect]:
        """A running job's hook said how far it is."""
        lease = next((item for item in self.leases.values() if item.task == message.task), None)
        return lease.heard(message, now) if lease is not None else []

    def _standby_changed(self, sender: PeerId, message: StandbyChange) -> list[Effect]:
        for lease in self.leases.values():
            same = (lease.job, lease.assign.chunk, lease.assign.epoch) == (message.job, message.chunk, message.epoch)
            if same and lease.steward == sender:
                lease.standby = PeerId(message.standby[0]) if message.standby else None
        return []

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _judged(self, lease: Lease, outcome: str, code: str, time: int, now: Micros) -> list[Effect]:
        line = lease.earning(outcome, code, time)
        stored = Store(f"earning/{time:020d}/{lease.op.hex()}", wire.encode(line))
        return [stored, *self._drop(lease, outcome, now)]

    def _reconcile(self, lease: Lease, now: Micros) -> list[Effect]:
        """Catch up with an end that no receipt told: expiry, or what was decided while nobody could reach us."""
        ledger, assign = self._counter.ledger(), lease.assign
        escrow = ledger.escrows.get(assign.escrow)
        known = escrow.chunks.get(assign.chunk) if escrow is not None else None
        if assign.escrow in ledger.bygone:
            return self._drop(lease, "escrow_closed", now)
        if known is None or known.epoch < assign.epoch:
            return []
        if known.epoch > assign.epoch or known.assign != lease.op:
            return self._drop(lease, "stale_epoch", now)
        if known.state in ("assigned", "claimed"):
            return []
        if known.outcome in VERDICTS:
            return self._judged(lease, known.outcome, known.code, ledger.time, now)
        return self._drop(lease, known.outcome, now)

    def _drop(self, lease: Lease, why: str, now: Micros) -> list[Effect]:
        """The lease is over; whatever still runs for it stops."""
        del self.leases[lease.key]
        stop: list[Effect] = [Compute(Stop(lease.task))] if lease.phase == "running" else []
        ended = Emit(
            "lease_ended",
            {"job": lease.job.hex(), "chunk": lease.assign.chunk, "epoch": lease.assign.epoch, "why": why},
        )
        gone = Store(f"lease/{lease.op.hex()}", None)
        return [*self.guards.ended(lease, now), *stop, gone, ended, *self._start(now)]

    # ── ending early ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _cancelled(self, sender: PeerId, message: CancelChunk, now: Micros) -> list[Effect]:
        for lease in self.leases.values():
            same = (lease.job, lease.assign.chunk, lease.assign.epoch) == (message.job, message.chunk, message.epoch)
            if same and lease.steward == sender:
                return self._give_back(lease, f"cancelled: {message.reason}", now)
        return []

    def drain(self, finish_running: bool, now: Micros) -> list[Effect]:
        """Take nothing new; finish what runs, or give everything back now."""
        self.is_draining = True
        effects: list[Effect] = []
        for lease in list(self.leases.values()):
            if lease.phase in ("countersigned", "waiting") or (lease.phase == "running" and not finish_running):
                effects += self._give_back(lease, "drain: the owner wants the machine back", now)
        return effects

    def resume(self) -> None:
        """Take work again."""
        self.is_draining = False

    def restore(self, keys: list[tuple[bytes, int, int]], now: Micros) -> list[Effect]:
        """Leases of an earlier run of this node: its work is gone, so they are given back at once."""
        effects: list[Effect] = []
        for escrow, chunk, epoch in keys:
            body = Surrender(escrow, chunk, epoch, "restart: the node was started again")
            effects += self._client.submit(operations.signed_op(self._network, body, self._identity), now)
        return effects

    def give_back(self, key: LeaseKey, why: str, now: Micros) -> list[Effect]:
        """Stop a lease's task and surrender it; nothing when it is over already."""
        lease = self.leases.get(key)
        return self._give_back(lease, why, now) if lease is not None else []

    def _give_back(self, lease: Lease, why: str, now: Micros) -> list[Effect]:
        lease.is_unwanted = True
        match lease.phase:
            case "running":
                return [Compute(Stop(lease.task)), *self._surrender(lease, why, now)]
            case "waiting":
                return self._surrender(lease, why, now)
            case _:
                return []

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[Effect]:
        """Beats for every lease that is at work; leases whose receipt never came are forgotten."""
        if now < self._beat_at:
            return [Wake(self._beat_at)] if self.leases or self.traces else []
        self._beat_at = Micros(now + BEAT_INTERVAL)
        effects: list[Effect] = [Wake(self._beat_at)] if self.leases or self.traces else []
        effects += self.traces.release(self.leases, self._counter.ledger())
        for lease in list(self.leases.values()):
            if lease.phase == "countersigned" and now >= lease.since + COUNTERSIGNED_FOR:
                effects += self._drop(lease, "no receipt", now)
            elif ended := self._reconcile(lease, now):
                effects += ended
            elif lease.waits_in_vain(now):
                effects += self._surrender(lease, "no slot came free for it", now)
            elif lease.phase != "countersigned":
                lease.beats += 1
                beat = lease.beat()
                effects += [*(Send(PeerId(peer), beat) for peer in lease.assign.watchers), *lease.tidings(now)]
        self._bidding.forget({lease.job for lease in self.leases.values()} | self.awaited(), now)
        return effects
