"""The steward: the peer that carries jobs for renters, from quote to refund. Spec: specs/14-steward.md.

It keeps the renters' keys that it signs with, turns specifications into jobs, and routes what peers say to the right
one. It carries many jobs; none of them needs it to stay up: `restore` goes on where the records end.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Final

from protocol import extension, operations, succession, wire
from protocol.completions import Completion, Examined, Fetched, FetchFailed
from protocol.desk import Desk
from protocol.effects import Effect, Emit, Send, Store, Wake
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.granting import chunk_cost
from protocol.handover import HandoverProposal
from protocol.identity import Identity, peer_text
from protocol.job import Job
from protocol.job_record import ChunkRecord, JobRecord
from protocol.jobspec import JobSpec
from protocol.ledger import operation_decoder
from protocol.ledger_client import Ordered
from protocol.matching import Plan
from protocol.messages import Accept, Attestation, Beat, Bid, Decline, LogLines, Message, NoBid, Reveal, Unwatch
from protocol.operations import EscrowExtend, EscrowOpen, Fence, Handover, SignedOp
from protocol.snapshots import Protection, SnapshotNotice
from protocol.units import CREDIT, DAY, MINUTE, Digest, JobId, Micros, PeerId

QUOTE_VALID: Final = Micros(5 * MINUTE)
"""Microseconds for which a quote holds (features J1: 5 min)."""

JOBS_MAX: Final = 10_000
"""Jobs that are not over; one more is refused."""

JOBS_SHARE: Final = 1_000
"""Of those so many may be one renter's once half of the room is full: a quote costs nothing."""

REDUCED_MAX: Final = 1_500
"""Chunks whose output digests still fit one 64 KiB message to the reduce step's provider."""

NO_BIDS_MAX: Final = 64
"""Refusals to bid remembered per job, for the person who asks why nobody takes it."""


def job_id(renter: PeerId, key: str) -> JobId:
    """The same renter and key always name the same job, at any gateway.

    >>> job_id(PeerId(bytes(32)), "a") == job_id(PeerId(bytes(32)), "a")
    True
    """
    return JobId(hashlib.sha256(b"shoal/1\0job\0" + renter + key.encode()).digest()[:16])


class Steward:
    """Carries jobs. Commands are methods; what peers, ledger and driver say comes through `receive` and `ordered`."""

    accepts: tuple[type, ...] = (
        Bid,
        NoBid,
        Accept,
        Decline,
        Beat,
        LogLines,
        Reveal,
        Attestation,
        Fetched,
        FetchFailed,
        SnapshotNotice,
        Protection,
        HandoverProposal,
        Examined,
    )

    def __init__(self, desk: Desk, plan: Callable[[JobSpec, PeerId, Micros], Plan]) -> None:
        self._desk = desk
        self.plan = plan
        self.jobs: dict[JobId, Job] = {}
        self.renters: dict[PeerId, Identity] = {desk.identity.peer: desk.identity}
        self.no_bids: dict[JobId, dict[PeerId, NoBid]] = {}
        self._escrows: dict[bytes, JobId] = {}
        self._next_sequence: dict[bytes, int] = {}

    # ── commands of renters ──────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, spec: JobSpec, renter: PeerId, key: str, now: Micros) -> tuple[JobRecord, Plan, list[Effect]]:
        """Plan and quote. The same renter and key give the same job again; other content under them is refused."""
        if renter not in self.renters:
            raise Refused(
                f"this node keeps no key for renter {peer_text(renter)}",
                code="unknown_renter",
                fix="Create the renter first.",
            )
        body = wire.encode(spec)
        job = job_id(renter, key)
        known = self.jobs.get(job)
        plan = self.plan(spec, renter, now)
        if known is not None:
            if known.record.spec_digest != wire.digest(body):
                raise Refused(
                    "this key was used for another specification", code="key_reused", fix="Use a new key for a new job."
                )
            return known.record, plan, []
        self._check_room(renter)
        if not plan.candidates:
            reasons = (
                "; ".join(f"{peer_text(item.peer)[-8:]}: {item.detail}" for item in plan.excluded[:8])
                or "no offers are known"
            )
            raise Refused(
                f"no provider can run this job ({len(plan.excluded)} excluded: {reasons})",
                code="no_capacity",
                fix="Lower what the job asks for, raise max_price, or wait for more providers.",
                numbers={"excluded": len(plan.excluded)},
            )
        if spec.reduce and len(spec.chunks) > REDUCED_MAX:
            raise Refused(
                f"a reduce step reads at most {REDUCED_MAX} chunks, this job has {len(spec.chunks)}",
                code="too_many_chunks",
                fix="Make chunks larger, or leave the reduce step out.",
                numbers={"chunks": len(spec.chunks), "chunks_max": REDUCED_MAX},
            )
        costs = [chunk_cost(candidate.chunk_price, spec) for candidate in plan.candidates]
        price, least = max(costs), min(costs) * spec.steps
        if least > spec.spend_cap:
            raise Refused(
                f"the job costs at least {least / CREDIT:g} credits in {spec.steps} steps, "
                f"its spend_cap is {spec.spend_cap / CREDIT:g}",
                code="budget_too_small",
                fix="Raise spend_cap, or lower estimate or the number of chunks.",
                numbers={"needed": least, "spend_cap": spec.spend_cap},
            )
        record = JobRecord(
            job=job,
            renter=renter,
            key=key,
            spec=spec,
            spec_digest=wire.digest(body),
            spec_size=len(body),
            created=now,
            quote_expires=now + QUOTE_VALID,
            cap=max(1, min(spec.spend_cap, price * spec.steps)),
            chunk_price_max=price,
            chunks=[ChunkRecord(index) for index in range(spec.steps)],
        )
        self.jobs[job] = Job(record, self._desk)
        fields: dict[str, str | int] = {"job": job.hex(), "state": "quoted", "reason": ""}
        return record, plan, [self._store(record), Emit("job", fields), Wake(Micros(now + QUOTE_VALID))]

    def _check_room(self, renter: PeerId) -> None:
        """Raise `Refused` (`too_many_jobs`) unless one more job of this renter may be carried."""
        renters = Counter(job.record.renter for job in self.jobs.values() if not job.record.is_final)
        mine, carried = renters[renter], renters.total()
        if carried >= JOBS_MAX or (carried >= JOBS_MAX // 2 and mine >= JOBS_SHARE):
            raise Refused(
                f"this steward carries {carried} jobs already, {mine} of this renter",
                code="too_many_jobs",
                fix="Ask another gateway.",
                numbers={"carried": carried, "mine": mine},
            )

    def confirm(self, job: JobId, now: Micros) -> list[Effect]:
        """Fund the escrow from the renter's free credits. Confirming twice is the same as once."""
        record = self.job(job).record
        if record.state != "quoted":
            if record.state in ("expired", "cancelled"):
                raise Refused(
                    f"the job is {record.state}: {record.reason}",
                    code="job_over",
                    fix="Submit it again with a new key.",
                )
            return []
        if now > record.quote_expires:
            raise Refused(
                "the quote has expired after 5 minutes",
                code="quote_expired",
                fix="Submit the job again with a new key.",
            )
        ledger, desk = self._desk.ledger(), self._desk
        have = ledger.available("U", record.renter)
        if have < record.cap:
            raise Refused(
                f"the escrow needs {record.cap / CREDIT:g} credits, {have / CREDIT:g} are available",
                code="insufficient_funds",
                fix="Deposit more, or lower spend_cap.",
                numbers={"needed": record.cap, "available": have},
            )
        spec = record.spec
        span = spec.timeout * spec.steps * spec.attempts_max + DAY
        renter = PeerId(record.renter)
        record.deadline = desk.client.ledger_now(now) + span
        operation = EscrowOpen(
            record.renter,
            0,
            self.sequence(renter),
            record.job,
            record.cap,
            record.spec_digest,
            desk.identity.peer,
            record.deadline,
        )
        signed = operations.signed_op(desk.network, operation, self.renters[renter])
        record.open_op, record.escrow = wire.encode(signed), signed.op_id
        record.state, record.confirmed = "funding", now
        self._escrows[record.escrow] = job
        fields: dict[str, str | int] = {"job": job.hex(), "state": "funding", "reason": ""}
        return [self._store(record), Emit("job", fields), *desk.client.submit(signed, now), Wake(now)]

    def cancel(self, job: JobId, now: Micros) -> list[Effect]:
        """End a job early; what was not earned goes back to the renter."""
        found = self.job(job)
        if found.record.is_final and found.record.state != "cancelled":
            raise Refused(f"the job is over: {found.record.state}", code="job_over")
        return found.cancel("cancelled", "cancelled by the renter", now)

    def extend(self, job: JobId, spend_cap: int | None, timeout: int | None, now: Micros) -> list[Effect]:
        """Raise what a job may spend: a quote's limit at once, a funded escrow's cap once the ledger applied it."""
        record = self.job(job).record
        if timeout is not None:
            raise Refused(
                "the timeout is part of the specification that was quoted",
                code="not_extendable",
                fix="Submit it again with another timeout.",
            )
        if record.state != "quoted":
            return self._extend_escrow(record, spend_cap, now)
        if spend_cap is not None:
            record.cap = max(record.cap, min(spend_cap, record.chunk_price_max * record.spec.steps))
        record.quote_expires = now + QUOTE_VALID
        return [self._store(record)]

    def _extend_escrow(self, record: JobRecord, spend_cap: int | None, now: Micros) -> list[Effect]:
        desk, renter = self._desk, PeerId(record.renter)
        wanted = extension.check(record, spend_cap, desk.ledger().available("U", renter))
        operation = extension.operation(record, wanted, self.sequence(renter))
        signed = operations.signed_op(desk.network, operation, self.renters[renter])
        extension.begin(record, signed, wanted)
        return [self._store(record), *desk.client.submit(signed, now), Wake(now)]

    def sequence(self, owner: PeerId) -> int:
        """The next number of the owner's lane 0, those under way counted in."""
        if not self._desk.is_current():
            raise Unavailable(
                "this node's copy of the ledger is still catching up",
                code="ledger_behind",
                fix="Try again in a few seconds.",
            )
        number = max(self._desk.ledger().next_sequence(owner, 0), self._next_sequence.get(owner, 0))
        self._next_sequence[owner] = number + 1
        return number

    def _reserve(self, signed: SignedOp) -> None:
        """A sequence that an earlier run gave away and the ledger may not have seen: nobody gets it again."""
        operation = wire.decode(signed.body, operation_decoder, self._desk.identity.peer)
        if isinstance(operation, EscrowOpen | EscrowExtend):
            known = self._next_sequence.get(operation.owner, 0)
            self._next_sequence[operation.owner] = max(known, operation.sequence + 1)

    def job(self, job: JobId) -> Job:
        """The job, or `Refused` with code `no_such_job`."""
        found = self.jobs.get(job)
        if found is None:
            raise Refused(
                f"no job {wire.text_id('job', job)} here", code="no_such_job", fix="List the jobs to see what there is."
            )
        return found

    def restore(self, records: list[JobRecord], now: Micros) -> list[Effect]:
        """Take up the jobs that an earlier run of this node left behind."""
        effects: list[Effect] = []
        for record in records:
            for chunk in record.chunks:
                if chunk.state == "granted":
                    chunk.state, chunk.provider = "waiting", b""
            self.jobs[JobId(record.job)] = Job(record, self._desk)
            if record.escrow:
                self._escrows[record.escrow] = JobId(record.job)
            undecided = record.open_op if record.state == "funding" else record.extend_op
            if undecided and not record.is_final:
                signed = wire.decode(undecided, _op_decoder, self._desk.identity.peer)
                self._reserve(signed)
                effects += self._desk.client.submit(signed, now)
        return [*effects, Wake(now)]

    # ── what peers, driver and ledger say ────────────────────────────────────────────────────────────────────────────
    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Bid(job=job):
                found = self.jobs.get(JobId(job))
                return found.bid(sender, message, now) if found else []
            case NoBid(job=job):
                return self._no_bid(sender, message) if job in self.jobs else []
            case Accept() | Decline():
                return self._answered(sender, message, now)
            case Beat(escrow=escrow):
                found = self._by_escrow(escrow, message.chunk)
                return found.beat(sender, message, now) if found else []
            case Reveal(escrow=escrow):
                found = self._by_escrow(escrow, message.chunk)
                return found.reveal(sender, message) if found else []
            case LogLines(job=job):
                found = self.jobs.get(JobId(job))
                known = found is not None and message.chunk < len(found.record.chunks)
                return found.log(sender, message, now) if found and known else []
            case SnapshotNotice():
                found = self.jobs.get(succession.job_of(sender, message))
                return found.snapshot(sender, message) if found else []
            case Protection(job=job):
                found = self.jobs.get(JobId(job))
                known = found is not None and message.chunk < len(found.record.chunks)
                return found.protection(sender, message) if found and known else []
            case HandoverProposal(operation=signed):
                return self._handed_over(sender, message, signed, now)
            case Examined(lease=(escrow, chunk, _)):
                found = self._by_escrow(escrow, chunk)
                effects = found.leasing.examined(message, now) if found else []
                return [self._store(found.record), *effects] if found and effects else []
            case Attestation():
                return self._attested(sender, message, now)
            case Fetched(digest=digest) | FetchFailed(digest=digest):
                is_here = isinstance(message, Fetched)
                return [
                    effect
                    for found in list(self.jobs.values())
                    if not found.record.is_final
                    for effect in found.fetched(digest, is_here, now)
                ]
            case _:
                raise AssertionError(f"{type(message).__name__} is not for the steward")

    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        """A ledger operation that concerns one of the jobs was decided."""
        operation = event.operation
        if isinstance(operation, EscrowOpen):
            found = self.jobs.get(JobId(operation.job))
            return found.opened(event, now) if found and found.record.escrow == event.outcome.op else []
        escrow = getattr(operation, "escrow", None)
        owner = self._by_escrow(escrow, getattr(operation, "chunk", 0)) if escrow is not None else None
        return owner.ordered(event, now) if owner else []

    def tick(self, now: Micros) -> list[Effect]:
        return [effect for job in list(self.jobs.values()) for effect in job.tick(now)]

    def _handed_over(self, sender: PeerId, proposal: HandoverProposal, signed: SignedOp, now: Micros) -> list[Effect]:
        operation = wire.decode(signed.body, operation_decoder, sender)
        if not isinstance(operation, Handover):
            raise RemoteViolation(sender, "a proposal holds a handover", code="malformed")
        found = self._by_escrow(operation.escrow, operation.chunk)
        return found.leasing.hand_over(sender, proposal, now) if found else []

    def _answered(self, sender: PeerId, message: Accept | Decline, now: Micros) -> list[Effect]:
        for job in self.jobs.values():
            if job.leasing.holds_grant(Digest(message.op)):
                leasing = job.leasing
                return (
                    leasing.accept(sender, message, now)
                    if isinstance(message, Accept)
                    else leasing.decline(sender, message, now)
                )
        return []

    def _attested(self, sender: PeerId, message: Attestation, now: Micros) -> list[Effect]:
        fence = wire.decode(message.operation.body, operation_decoder, sender)
        signature = next((item for item in message.operation.signatures if item.signer == sender), None)
        if not isinstance(fence, Fence) or signature is None:
            raise RemoteViolation(sender, "an attestation holds a fence signed by its sender", code="malformed")
        found = self._by_escrow(fence.escrow, fence.chunk)
        if found is None:  # A job that we do not carry: nobody needs the watch.
            return [Send(sender, Unwatch(fence.escrow, fence.chunk, fence.epoch))]
        return found.leasing.attest(sender, fence, signature, now)

    def _no_bid(self, sender: PeerId, message: NoBid) -> list[Effect]:
        known = self.no_bids.setdefault(JobId(message.job), {})
        if len(known) < NO_BIDS_MAX or sender in known:
            known[sender] = message
        return [
            Emit(
                "no_bid",
                {
                    "job": message.job.hex(),
                    "provider": peer_text(sender),
                    "code": message.code,
                    "detail": message.detail,
                },
            )
        ]

    def _by_escrow(self, escrow: bytes, chunk: int) -> Job | None:
        job = self._escrows.get(escrow)
        found = self.jobs.get(job) if job else None
        return found if found is not None and chunk < len(found.record.chunks) else None

    def _store(self, record: JobRecord) -> Store:
        return Store(f"job/{record.job.hex()}", wire.encode(record))


_op_decoder: Final = wire.decoder(SignedOp)
