"""The judge on each validator: from an ordered claim to a signed verdict. Spec: specs/11-verification.md.

It opens a case per claim, gives it what comes in (`verifier.course`, `verifier.audits`), and reads specifications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from protocol import wire
from protocol.completions import Completion, Fetched, FetchFailed, Scored
from protocol.effects import Compute, Effect, Fetch, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.identity import Identity, is_signed_by
from protocol.jobspec import JobSpec
from protocol.ledger import operation_decoder
from protocol.messages import (
    AuditCommit,
    AuditReveal,
    InputsNotice,
    Message,
    PrefixOpened,
    Receipts,
    Reveal,
    Submit,
    UnitsOpened,
)
from protocol.operations import Claim, SignedOp, Verdict
from protocol.quote_messages import Quote, QuoteRequest
from protocol.units import PPM, Digest, Micros, PeerId
from verifier.bench import CARELESS, Auditors, Bench, Caution
from verifier.case import Case, Decided, Fetching, Gathering, Place, Scoring
from verifier.concurrence import Concurrence
from verifier.course import Course
from verifier.deadlines import INPUTS_TIMEOUT, SPEC_BYTES_MAX, next_look
from verifier.dossiers import Dossiers
from verifier.drift import Drift
from verifier.drift_watch import Account
from verifier.views import Facts, LeaseView, LedgerView

FACTS_MAX: Final = 1024
"""Specifications remembered; the oldest is forgotten and fetched again."""

_spec_decoder: Final = wire.decoder(JobSpec)

Answer = TypeVar("Answer", Quote, UnitsOpened, Reveal, PrefixOpened, AuditCommit, AuditReveal)
"""What belongs to one lease of a chunk."""


class Judge:
    """All claims in judgement at one validator."""

    accepts: tuple[type, ...] = (
        Receipts,
        Submit,
        InputsNotice,
        Quote,
        QuoteRequest,
        UnitsOpened,
        Reveal,
        PrefixOpened,
        AuditCommit,
        AuditReveal,
        Fetched,
        FetchFailed,
        Scored,
    )

    def __init__(
        self,
        identity: Identity,
        chain: str,
        ledger: Callable[[], LedgerView],
        validators: Callable[[], tuple[PeerId, ...]],
        auditors: Auditors,
        read_blob: Callable[[Digest], bytes],
        caution: Caution = CARELESS,
    ) -> None:
        self._me = identity.peer
        self._chain = chain
        self._ledger = ledger
        self._read_blob = read_blob
        self._wanted: dict[Digest, None] = {}
        """Specifications that a steward told of before any claim."""
        self._facts: dict[Digest, Facts] = {}
        self.cases: dict[Place, Case] = {}
        self._bench = Bench(identity, chain, ledger, validators, auditors, read_blob, caution, self._facts, self.cases)
        self._course = Course(self._bench)
        self._concurrence = Concurrence(self._bench)
        self.dossiers = Dossiers()

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Receipts():
                return self._ordered(message, now) if sender == self._me else []
            case Submit():
                return self._concurrence.submitted(message, now)
            case InputsNotice():
                return self._inputs(sender, message)
            case QuoteRequest():
                return self._course.quotes.asked(sender, message)
            case Quote():
                return self._course.quotes.quoted(sender, self._current(message), now)
            case UnitsOpened():
                return self._course.traces.opened(sender, self._current(message), now)
            case Reveal():
                return self._course.revealed(sender, self._current(message), now)
            case PrefixOpened():
                return self._course.audits.prefixes.opened(sender, self._current(message), now)
            case AuditCommit():
                return self._course.audits.committed(sender, self._current(message), now)
            case AuditReveal():
                return self._course.audits.opened(sender, self._current(message), now)
            case Fetched():
                return self._fetched(Digest(message.digest), message.size, now)
            case FetchFailed():
                return self._course.fetch_failed(Digest(message.digest), now)
            case Scored():
                return self._course.comparisons.scored(message, now)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the judge", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Every deadline that has passed."""
        effects = [*self._look_for_beacons(now), *self.dossiers.forget(now)]
        for case in list(self.cases.values()):
            if self._is_over(case):
                effects += self._close(case.place, now)
            else:
                effects += self._course.late(case, now)
        if self.cases:
            effects.append(Wake(min(next_look(case) for case in self.cases.values())))
        return effects

    @property
    def drifting(self) -> Mapping[Account, Drift]:
        """Providers whose small errors have a direction, by what they were audited in. For people."""
        return self._bench.drifts.flagged

    def resume(self, now: Micros) -> list[Effect]:
        """After a restart: take up every claim that the ledger still waits for."""
        ledger = self._ledger()
        effects: list[Effect] = []
        for escrow_id, escrow in ledger.escrows.items():
            for chunk, lease in escrow.chunks.items():
                if not escrow.is_closed and lease.state == "claimed" and lease.claimed_in:
                    place = (escrow_id, chunk, lease.epoch)
                    effects += self._open(place, Micros(now - ledger.time), now)
        return effects

    def recall(self, receipts: Receipts) -> None:
        """After a restart: a block of an earlier run. Claims that wait may be drawn from a beacon in it."""
        operations = [wire.decode(signed.body, operation_decoder, self._me) for signed in receipts.operations]
        self.dossiers.ordered(receipts, operations)

    # ── opening a case ───────────────────────────────────────────────────────────────────────────────────────────────
    def _ordered(self, receipts: Receipts, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        operations = [wire.decode(signed.body, operation_decoder, self._me) for signed in receipts.operations]
        self.dossiers.ordered(receipts, operations)
        for operation, signed, receipt in zip(operations, receipts.operations, receipts.receipts, strict=True):
            is_applied = receipt.outcome.status == "applied"
            match operation:
                case Claim() if is_applied:
                    place = (operation.escrow, operation.chunk, operation.epoch)
                    effects += self._open(place, Micros(now - receipts.header.time), now)
                case Claim():
                    effects += self._claimed_again(operation, signed, now)
                case Verdict() if is_applied:
                    effects += self._close((operation.escrow, operation.chunk, operation.epoch), now)
        return [*effects, *self._look_for_beacons(now)]

    def _close(self, place: Place, now: Micros) -> list[Effect]:
        """It is decided, or nobody waits for it any more: what was opened is kept for whoever wants to check it."""
        case = self.cases.pop(place, None)
        return self.dossiers.keep(case, now) if case is not None else []

    def _open(self, place: Place, lag: Micros, now: Micros) -> list[Effect]:
        """`lag` = our clock less the ledger's, microseconds."""
        ledger = self._ledger()
        escrow = ledger.escrows.get(place[0])
        if escrow is None:  # Forgotten: of many blocks at once the ledger is at the last before we hear of the first.
            return []
        lease = escrow.chunks[place[1]]
        if place in self.cases or lease.epoch != place[2] or lease.state != "claimed":
            return []
        signers = frozenset(PeerId(peer) for peer in lease.inherited.values())
        standings = [ledger.standings.get(peer) for peer in sorted(signers | {PeerId(lease.provider)})]
        case = Case(
            place=place,
            provider=PeerId(lease.provider),
            steward=PeerId(escrow.steward),
            renter=PeerId(escrow.owner),
            spec=Digest(escrow.spec),
            sealed=Digest(lease.sealed),
            due=Micros(lease.verdict_by + lag),
            state=Gathering(Micros(now + INPUTS_TIMEOUT), now),
            beacon=Digest(lease.beacon),
            # A claim is trusted as little as the least of those who made it.
            consecutive_valid=min(one.consecutive_valid if one is not None else 0 for one in standings),
            on_probation=_is_tainted(lease) or any(one is not None and one.probation > 0 for one in standings),
            took=Micros(lease.claimed_at - lease.assigned_at),
            done_ppm=max(lease.done_ppm, *_shares(lease)),
            inherited=lease.prefixes,
            signers=signers,
            floor=self._bench.caution.floor(place, PeerId(lease.provider)),
            trace=lease.trace,
            units=lease.units,
        )
        self.cases[place] = case
        if case.spec in self._facts:
            return self._course.begin(case, now)
        return [self._course.fetch_spec(case), Wake(next_look(case))]

    def _claimed_again(self, claim: Claim, signed: SignedOp, now: Micros) -> list[Effect]:
        """A refused claim. One that its provider signed for the same lease, and that says something else, proves with
        the first that it wanted to choose between two results."""
        place = (claim.escrow, claim.chunk, claim.epoch)
        case = self.cases.get(place)
        if case is None or isinstance(case.state, Decided):
            return []
        said = (claim.sealed, claim.trace or b"", claim.units or 0, claim.inherited or ())
        if said == (case.sealed, case.trace, case.units, case.inherited):
            return []
        body = wire.signing_bytes(self._chain, "op", signed.body)
        mine = (item for item in signed.signatures if item.signer == case.provider)
        if not any(is_signed_by(case.provider, body, item.signature) for item in mine):
            return []
        case.contradiction = signed.op_id
        return self._bench.decide(case, "fraud", "equivocation", now)

    def _look_for_beacons(self, now: Micros) -> list[Effect]:
        """Claims whose draw waits for nothing else."""
        effects: list[Effect] = []
        for case in list(self.cases.values()):
            if case.beacon or not isinstance(case.state, Gathering):
                continue
            lease = self._lease(case)
            case.beacon = Digest(lease.beacon) if lease is not None else case.beacon
            if case.beacon and case.facts is not None:
                effects += self._course.begin(case, now)
        return effects

    def _current(self, message: Answer) -> Answer:
        """The message, unless it belongs to an earlier lease of a chunk that is claimed anew. Raises `Refused`."""
        escrow = self._ledger().escrows.get(message.escrow)
        lease = escrow.chunks.get(message.chunk) if escrow is not None else None
        if lease is None or lease.epoch <= message.epoch:
            return message
        if (message.escrow, message.chunk, lease.epoch) in self.cases:
            raise Refused(
                f"an answer for epoch {message.epoch}, which is over",
                code="replay",
                fix="Nothing: answers count for their own lease only.",
                numbers={"epoch": message.epoch},
            )
        return message

    def _inputs(self, sender: PeerId, notice: InputsNotice) -> list[Effect]:
        """The steward says what a lease reads: fetched ahead, and checked against what the ledger knows."""
        escrow = self._ledger().escrows.get(notice.escrow)
        if escrow is None:
            raise Refused("no such escrow here yet", code="no_escrow", fix="Nothing is lost: the claim will tell.")
        if sender != escrow.steward:
            raise RemoteViolation(sender, "only the steward tells what a lease reads", code="not_the_steward")
        if notice.spec != escrow.spec:
            raise RemoteViolation(sender, "inputs for another specification than the escrow's", code="wrong_spec")
        facts = self._facts.get(Digest(notice.spec))
        if facts is None:
            while len(self._wanted) >= FACTS_MAX:
                del self._wanted[next(iter(self._wanted))]
            self._wanted[Digest(notice.spec)] = None
            sources = tuple(PeerId(peer) for peer in notice.sources) or (sender,)
            return [Compute(Fetch(Digest(notice.spec), notice.spec_size, sources))]
        known = self._bench.outputs(notice.escrow, notice.chunk, facts)
        if notice.outputs and known is None:
            raise Refused("not all results are accepted here yet", code="inputs_unknown", fix="The claim will tell.")
        if notice.outputs and notice.outputs != known:
            raise RemoteViolation(sender, "inputs that are not the accepted outputs", code="wrong_inputs")
        return []

    # ── blobs ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _fetched(self, digest: Digest, size: int, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        waiting = [case for case in self.cases.values() if case.spec == digest and isinstance(case.state, Gathering)]
        is_spec = bool(waiting) or digest in self._wanted
        self._wanted.pop(digest, None)
        if is_spec and not self._learn(digest, size):
            for case in waiting:
                effects += self._bench.decide(case, "missing", "bad_spec", now)
        elif is_spec:
            for case in waiting:
                effects += self._course.begin(case, now)
        for case in list(self.cases.values()):
            if isinstance(case.state, Fetching) and case.reveal is not None and case.reveal.output == digest:
                effects += self._course.delivered(case, now)
            elif isinstance(case.state, Scoring) and case.state.results is None and case.state.output == digest:
                effects += self._course.comparisons.fetched(case, now)
        return effects

    def _learn(self, digest: Digest, size: int) -> bool:
        """Read what the verdicts of a job depend on; False when the blob is no specification."""
        try:
            spec = wire.decode(self._read_blob(digest), _spec_decoder, self._me, SPEC_BYTES_MAX)
        except RemoteViolation:
            return False
        while len(self._facts) >= FACTS_MAX:
            del self._facts[next(iter(self._facts))]
        self._facts[digest] = Facts.of(digest, size, spec)
        return True

    # ── deadlines and the end ────────────────────────────────────────────────────────────────────────────────────────
    def _is_over(self, case: Case) -> bool:
        """The ledger no longer waits for this verdict."""
        lease = self._lease(case)
        return lease is None or lease.state != "claimed"

    def _lease(self, case: Case) -> LeaseView | None:
        """What the ledger says of it now; None when the chunk has gone on without it."""
        escrow = self._ledger().escrows.get(case.place[0])
        lease = escrow.chunks.get(case.place[1]) if escrow is not None else None
        return lease if lease is not None and lease.epoch == case.place[2] else None


def _shares(lease: LeaseView) -> list[int]:
    """Of the chunk's units, how many were done before this lease by others who signed for them, ppm."""
    return [0, *(PPM * entry.units // lease.units for entry in lease.prefixes if lease.units)]


def _is_tainted(lease: LeaseView) -> bool:
    """Whether it rests on units that were found bad while it was at work."""
    return any(epoch in lease.tainted for epoch in lease.inherited)
