"""One job at its steward: from quote to closed escrow. Spec: specs/14-steward.md.

Sans-IO. `Steward` routes to one of these per job; what must survive a restart lies in the `JobRecord`.
"""

from __future__ import annotations

from typing import Final

from protocol import extension, job_notice, operations, overturned, wire
from protocol.desk import Desk
from protocol.effects import Effect, Emit, Send, Store, Wake
from protocol.job_logs import JobLogs
from protocol.job_record import Attempt, ChunkRecord, JobRecord, JobState
from protocol.leasing import Leasing
from protocol.ledger_client import RESUBMIT, Ordered
from protocol.messages import Beat, Bid, CancelChunk, LogLines, Reveal
from protocol.operations import Assign, EscrowClose, EscrowExtend, Fence, Handover, SignedOp, Surrender, Verdict
from protocol.shortfall import Shortfall
from protocol.snapshots import Protection, SnapshotNotice
from protocol.units import SECOND, Digest, Micros, PeerId

NOTICE_INTERVAL: Final = Micros(3 * SECOND)
"""Microseconds between notices while chunks are open: gossip may lose one."""

STANDBY_NOTICE: Final = Micros(10 * SECOND)
"""Microseconds between notices while nobody stands by for a running chunk: bids of before are old, and who was killed
and started again has to bid anew."""

STEP: Final = Micros(1 * SECOND)
"""Microseconds between two looks at a job while it is alive."""

_op_decoder: Final = wire.decoder(SignedOp)

JOB_FAULTS: Final = ("exit", "memory", "timeout", "disk", overturned.CHECK_FAILED)
"""Ends of attempts that point at the job rather than at the host; two hosts that agree end the job."""


class Job:
    """The life of one job."""

    def __init__(self, record: JobRecord, desk: Desk) -> None:
        self.record = record
        self._desk = desk
        self.leasing = Leasing(record, desk)
        self._rescue = overturned.Rescue(record, self.leasing.withheld)
        self._noticed = Micros(0)
        self._logs = JobLogs(record)
        self._closing = Micros(0)
        self._reopen: Micros | None = None
        """When to hand in the escrow again that came before its turn."""
        self._is_dirty = False
        self._wanted = job_notice.Wanted()
        self._shortfall = Shortfall(record)
        self._is_watched = True
        """Whether a job that is over has to be looked at: what is held of it may still be overturned."""

    def bid(self, provider: PeerId, bid: Bid, now: Micros) -> list[Effect]:
        """A provider wants chunks."""
        return self.leasing.bid(provider, bid, now) if self.record.is_open else []

    def _offer(self, now: Micros) -> list[Effect]:
        return self.leasing.offer_open(now) if self.record.is_open else []

    # ── the ledger speaks ────────────────────────────────────────────────────────────────────────────────────────────
    def ordered(self, event: Ordered, now: Micros) -> list[Effect]:
        """An operation on this job's escrow was decided."""
        match event.operation:
            case Assign() as assign:
                return self._assigned(assign, event, now)
            case Verdict() as verdict if event.is_applied:
                return self._judged(verdict, now)
            case Surrender() as surrender if event.is_applied:
                return self._lost(surrender.chunk, surrender.epoch, surrender.reason, now)
            case Handover() as handed if event.is_applied:
                return self._lost(handed.chunk, handed.epoch, "handed", now)
            case Fence() as fence if event.is_applied:
                return self._lost(fence.chunk, fence.epoch, "dead", now)
            case operations.Claim() as claim if event.is_applied:
                return self._mark(claim.chunk, claim.epoch, "claimed")
            case EscrowExtend() as extend:
                told = extension.told(self.record, extend, event)
                return [self._store(), told] if told is not None else []
            case EscrowClose() if event.is_applied or event.outcome.code == "escrow_closed":
                return self._finish(now)
            case EscrowClose():
                self._closing = Micros(0)
                return []
            case _:
                return []

    def opened(self, event: Ordered, now: Micros) -> list[Effect]:
        """The escrow is funded, or it is not."""
        if self.record.state != "funding":
            return []
        if event.outcome.code == "sequence_gap":  # An earlier operation of the renter is still on its way.
            self._reopen = Micros(now + RESUBMIT)
            return []
        if not event.is_applied:
            self.record.finished = now
            return self._set("failed", f"escrow refused: {event.outcome.detail}")
        return [*self._set("queued", ""), *self._notice(now)]

    def _assigned(self, assign: Assign, event: Ordered, now: Micros) -> list[Effect]:
        op, chunk = Digest(event.outcome.op), self.record.chunks[assign.chunk]
        if not event.is_applied:
            fields = {**self.record.fields(chunk), "code": event.outcome.code, "detail": event.outcome.detail}
            return [Emit("refused", fields)] if self.leasing.refused(op, now) else []
        self.leasing.started(assign, op, event.signed, now)
        if chunk.is_leased and chunk.epoch == assign.epoch:
            return []  # The ledger's copy told of it before its receipt came.
        chunk.epoch, chunk.provider, chunk.price, chunk.state = assign.epoch, assign.provider, assign.price, "leased"
        chunk.attempts.append(Attempt(assign.epoch, assign.provider, now, step=chunk.step))
        bidder = self.leasing.bidders.get(PeerId(assign.provider))
        chunk.executor = bidder.bid.executor if bidder else ""
        effects = self._set("running", "") if self.record.state == "queued" else []
        return [*effects, *self._changed(chunk)]

    def _judged(self, verdict: Verdict, now: Micros) -> list[Effect]:
        chunk = self.record.chunks[verdict.chunk]
        if chunk.epoch != verdict.epoch or chunk.state == "accepted":
            return []
        chunk.outcome, chunk.code = verdict.outcome, verdict.code
        chunk.is_audited, chunk.auditor = verdict.is_audited, verdict.auditor
        chunk.score, chunk.evidence = verdict.score if isinstance(verdict.score, int) else -1, verdict.evidence
        if verdict.outcome != "accept":
            self.leasing.succession.distrust(chunk)
            return self._lost(verdict.chunk, verdict.epoch, overturned.judged(self.record, chunk, verdict), now)
        chunk.state, chunk.output = "accepted", verdict.output
        effects = [
            *self.leasing.ended(chunk, "accepted", now),
            self._wanted.fetch(chunk, self._desk.client.peers),
            *self._changed(chunk),
        ]
        effects += self.leasing.succession.ended(chunk.index)
        return [*effects, *(self._settle_if_done(now) or self._offer(now))]

    def _lost(self, index: int, epoch: int, why: str, now: Micros) -> list[Effect]:
        """A lease ended without a result."""
        chunk = self.record.chunks[index]
        if chunk.epoch != epoch or not chunk.is_leased:
            return []
        if why in overturned.BARRED and chunk.provider not in self.record.barred:
            self.record.barred.append(chunk.provider)
        effects = self.leasing.ended(chunk, why, now)
        chunk.fruitless = 1 if chunk.attempts and chunk.attempts[-1].step < chunk.step else chunk.fruitless + 1
        self.leasing.blame(chunk, why, why.startswith(JOB_FAULTS), now)
        chunk.state, chunk.provider = "waiting", b""
        blamed = {attempt.provider for attempt in chunk.attempts if attempt.end.startswith(JOB_FAULTS)}
        is_alone = len(self.leasing.bidders) <= 1 and why not in overturned.BARRED
        if len(blamed) >= 2 or (blamed and is_alone):
            effects += self.cancel("failed", f"chunk {index} ended with {why} on {len(blamed)} provider(s)", now)
        elif chunk.fruitless >= self.record.spec.attempts_max:
            detail = f"chunk {index} was lost {chunk.fruitless} times without getting any further, last: {why}"
            effects += self.cancel("failed", detail, now)
        offered = self._offer(now)
        if self.record.is_open and chunk.state == "waiting":
            offered += self._notice(now)  # Nobody waits for it: bids are old by now.
        return [*effects, *self._changed(chunk), *offered]

    # ── the provider works ───────────────────────────────────────────────────────────────────────────────────────────
    def beat(self, sender: PeerId, beat: Beat, now: Micros) -> list[Effect]:
        """The provider lives; its phase is shown."""
        chunk = self.record.chunks[beat.chunk]
        if chunk.epoch == beat.epoch and chunk.provider == sender and chunk.attempts:
            chunk.attempts[-1].beat(beat.step, now)
        if (
            chunk.epoch == beat.epoch
            and chunk.provider == sender
            and chunk.state == "leased"
            and beat.phase == "running"
        ):
            chunk.state = "running"
            return self._changed(chunk)
        return []

    def snapshot(self, worker: PeerId, notice: SnapshotNotice) -> list[Effect]:
        """A running chunk has a new durable snapshot. It is stored before anybody hears of it."""
        effects = self.leasing.succession.noticed(worker, notice) if not self.record.is_final else []
        return [self._store(), *effects] if effects else []

    def protection(self, worker: PeerId, said: Protection) -> list[Effect]:
        """How safe a running chunk is, in its provider's words."""
        chunk = self.record.chunks[said.chunk]
        is_its = chunk.provider == worker and chunk.epoch == said.epoch and chunk.is_leased
        if not is_its or (chunk.exposed, chunk.kept) == (said.reason, said.kept):
            return []
        chunk.exposed, chunk.kept = said.reason, said.kept
        return [self._store(), *self._changed(chunk)]

    def log(self, sender: PeerId, message: LogLines, now: Micros) -> list[Effect]:
        """Lines of a chunk, in order, each once."""
        chunk = self.record.chunks[message.chunk]
        is_early = chunk.state == "granted" and message.epoch == chunk.epoch + 1  # Its receipt came before ours.
        if chunk.provider != sender or not (is_early or message.epoch == chunk.epoch):
            return []
        moved = self._mark(message.chunk, message.epoch, "running") if chunk.state == "leased" else []
        return [*moved, *self._logs.add(message, now)]

    def reveal(self, sender: PeerId, message: Reveal) -> list[Effect]:
        """The provider opened its claim: bring the output here while the judges look at it."""
        chunk = self.record.chunks[message.chunk]
        if chunk.provider != sender or chunk.epoch != message.epoch or not chunk.is_leased:
            return []
        chunk.output, chunk.output_bytes = message.output, message.output_bytes
        chunk.state = "revealed"
        return [self._wanted.fetch(chunk, self._desk.client.peers), *self._changed(chunk)]

    def fetched(self, digest: Digest, is_here: bool, now: Micros) -> list[Effect]:
        """An output lies here, or could not be fetched (asked for again by `tick`)."""
        effects: list[Effect] = []
        for chunk in self._rescue.fetched(digest, is_here, self._desk.ledger()):
            effects += [*self.leasing.succession.ended(chunk.index), *self._changed(chunk)]
        for chunk in self._wanted.come(digest):
            if chunk.output == digest and is_here and not chunk.is_fetched:
                chunk.is_fetched = True
                effects += self._changed(chunk)
        if effects:
            effects += self._settle_if_done(now) or self._offer(now)
        return effects

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def cancel(self, goal: JobState, reason: str, now: Micros) -> list[Effect]:
        """Stop: take back what is out, close the escrow, end as `goal`."""
        record = self.record
        if record.is_final or record.state == "settling":
            return []
        record.goal = goal
        if record.state == "quoted":
            record.finished = now
            return self._set(goal, reason)
        effects: list[Effect] = [
            Send(PeerId(chunk.provider), CancelChunk(record.job, chunk.index, chunk.epoch, reason[:128]))
            for chunk in record.chunks
            if chunk.is_leased
        ]
        return [*effects, *self._set("settling", reason), *self._close(now)]

    def _settle_if_done(self, now: Micros) -> list[Effect]:
        if self.record.state != "running" or not all(chunk.is_done for chunk in self.record.chunks):
            return []
        return [*self._set("settling", ""), *self._close(now)]

    def _close(self, now: Micros) -> list[Effect]:
        self._closing = Micros(now + 2 * SECOND)
        op = operations.signed_op(self._desk.network, EscrowClose(self.record.escrow), self._desk.identity)
        return self._desk.client.submit(op, now)

    def _finish(self, now: Micros) -> list[Effect]:
        if self.record.is_final:
            return []
        self.record.finished = now
        return self._set(self.record.goal, self.record.reason)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[Effect]:
        """Once a second while the job lives: lost grants, lost notices, lost outputs, what the ledger did by itself."""
        record, gone = self.record, self.leasing.examinations.let_go(self.leasing.succession.newest)
        if gone:
            gone.insert(0, self._store())
        if record.is_final:
            if not self._is_watched:
                return gone
            escrow = self._desk.ledger().escrows.get(record.escrow)
            is_closed = escrow.is_closed if escrow is not None else record.escrow in self._desk.ledger().bygone
            self._is_watched = overturned.can_be(record) and not is_closed
            wake: list[Effect] = [Wake(Micros(now + STEP))] if self._is_watched else []
            return [*gone, *self._reconcile(now), *([self._store()] if self._is_dirty else []), *wake]
        if record.state == "quoted":
            return (
                self.cancel("expired", "the quote was not confirmed in time", now)
                if now > record.quote_expires
                else [Wake(Micros(now + STEP))]
            )
        effects: list[Effect] = [Wake(Micros(now + STEP)), *gone]
        effects += [*self.leasing.tick(now), *self._reconcile(now)]
        if record.is_open:
            if record.deadline and self._desk.client.ledger_now(now) > record.deadline:
                return [*effects, *self.cancel("expired", "the deadline of the job has passed", now)]
            effects += [
                self._wanted.fetch(chunk, self._desk.client.peers)
                for chunk in record.chunks
                if chunk.state == "accepted" and not chunk.is_fetched
            ]
            effects += self._offer(now)
            wait = NOTICE_INTERVAL if record.open_chunks() else STANDBY_NOTICE
            if now >= self._noticed + wait and (record.open_chunks() or self.leasing.lacks_standby(now)):
                effects += self._notice(now)
            effects += self._settle_if_done(now)
            if why := self._shortfall.reason(self._desk.ledger(), self.leasing.bidders, now):
                effects += self.cancel("failed", why, now)
        elif record.state == "settling" and now >= self._closing:
            effects += self._close(now)
        elif record.state == "funding" and self._reopen is not None and now >= self._reopen:
            self._reopen = Micros(now + RESUBMIT)  # The client tells of the same refusal only once.
            effects += self._desk.client.submit(wire.decode(record.open_op, _op_decoder, self._desk.identity.peer), now)
        if self._is_dirty:
            effects.append(self._store())
        return effects

    def _reconcile(self, now: Micros) -> list[Effect]:
        """Catch up with what the ledger knows and no receipt told: expiry, and all that happened while we were down."""
        escrow = self._desk.ledger().escrows.get(self.record.escrow)
        if escrow is None:
            return []
        effects: list[Effect] = []
        if extension.catch_up(self.record, escrow.cap, escrow.deadline):
            effects.append(self._store())
        if self.record.state == "funding":
            effects += [*self._set("queued", ""), *self._notice(now)]
        for index, known in escrow.chunks.items():
            chunk = self.record.chunks[index]
            if overturned.is_overturned(chunk, known):
                why = overturned.reopen(self.record, chunk, known)
                self.leasing.succession.distrust(chunk)
                effects += self._lost(index, chunk.epoch, why, now) or self._changed(chunk)
                if chunk.state == "failed":
                    effects += self.cancel("failed", self.record.reason, now)
                effects += overturned.recalled(self.record)
            if known.epoch < chunk.epoch or chunk.state in ("accepted", "failed"):
                continue
            if known.state != "free" and chunk.is_leased and known.epoch > chunk.epoch:
                effects += self.leasing.ended(chunk, "lost", now)  # And leased again, while we were not looking.
                chunk.state = "waiting"
            if known.state == "free" and chunk.is_leased:
                effects += self._lost(
                    index, chunk.epoch, overturned.end_of(known.outcome, known.code) or "expired", now
                )
            elif known.state == "free":
                chunk.epoch = known.epoch  # Leased and lost while we were not looking: the next epoch follows on it.
                effects += self._rescue.look(chunk, known, self._desk.client.peers, now)
            elif known.state in ("assigned", "claimed") and not chunk.is_leased:
                chunk.epoch, chunk.provider, chunk.price, chunk.state = (
                    known.epoch,
                    known.provider,
                    known.price,
                    "leased",
                )
                chunk.attempts.append(Attempt(known.epoch, known.provider, now, step=chunk.step))
                effects += self._changed(chunk)
                self.leasing.resumed(known, now)
            elif known.state == "assigned":
                self.leasing.resumed(known, now)
            elif known.state == "paid":
                if known.epoch > chunk.epoch:
                    chunk.attempts.append(Attempt(known.epoch, known.provider, now, step=chunk.step))
                chunk.epoch, chunk.provider, chunk.price = known.epoch, known.provider, known.price
                chunk.state, chunk.output, chunk.outcome = "accepted", known.output, "accept"
                effects += [*self.leasing.ended(chunk, "accepted", now), *self._changed(chunk)]
        if self.record.state == "queued" and any(chunk.is_leased for chunk in self.record.chunks):
            effects += self._set("running", "")
        if escrow.is_closed:
            effects += self._finish(now)
        return effects

    # ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────
    def _notice(self, now: Micros) -> list[Effect]:
        self._noticed = now
        return [job_notice.published(self.record, self._desk, now), Wake(Micros(now + STEP))]

    def _mark(self, index: int, epoch: int, state: str) -> list[Effect]:
        chunk = self.record.chunks[index]
        if chunk.epoch != epoch or not chunk.is_leased:
            return []
        chunk.state = "claimed" if state == "claimed" else "running"
        return self._changed(chunk)

    def _set(self, state: JobState, reason: str) -> list[Effect]:
        self.record.state, self.record.reason = state, reason
        fields: dict[str, str | int] = {"job": self.record.job.hex(), "state": state, "reason": reason}
        return [self._store(), Emit("job", fields)]

    def _changed(self, chunk: ChunkRecord) -> list[Effect]:
        self._is_dirty = True
        return [Emit("chunk", self.record.fields(chunk))]

    def _store(self) -> Store:
        """The whole record; chunk changes in between are found again in the ledger, so once a second is enough."""
        self._is_dirty = False
        return Store(f"job/{self.record.job.hex()}", wire.encode(self.record))
