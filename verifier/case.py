"""One claim before its judge: what is known, and exactly what is being waited for. Spec: specs/11-verification.md."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import UNSET

from protocol.dossier import Heard
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Reveal, UnitsOpened
from protocol.operations import Found, Inherited, SignedOp, Verdict
from protocol.proof import Leaf, Results
from protocol.quote_messages import Quote
from protocol.units import Digest, Micros, PeerId
from verifier.settling import Finding, Settlement
from verifier.views import Facts

Place = tuple[bytes, int, int]
"""Escrow, chunk, epoch."""

SCORE_STEP: Final = 10_000
"""Parts per million: verdicts carry whole percents, so that judges whose floats differ in the last bit sign alike."""

NAMED_MAX: Final = 8
"""Peers in each list of a verdict."""

OF_TRACE: Final = frozenset({"bad_path", "withheld", "output_not_last_state", "malformed_proof"})
"""Codes whose evidence is the trace root in the claim."""


# ── states: one type each ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Gathering:
    """Waits for the specification, and for the beacon that decides about an audit."""

    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Unfolding:
    """Waits for the provider to open its trace: all claimed effects first, as they decide about units; then those."""

    indices: tuple[int, ...]
    """Units that were asked for; empty in the first round."""
    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Quoting:
    """Waits for evidence of trusted hardware, which spares this very claim its audit."""

    until: Micros
    asked: Micros
    heard: frozenset[PeerId] = frozenset()
    """Other judges whose copy was not good for anything."""


@dataclass(frozen=True, slots=True)
class Auditing:
    """Waits for the seals of auditors, who execute. The provider's output may be known (a second execution)."""

    auditors: tuple[PeerId, ...]
    """Who has not sealed yet."""
    until: Micros


@dataclass(frozen=True, slots=True)
class Revealing:
    """Waits for the provider to open its claim."""

    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Fetching:
    """Waits for the output to be here: a result that nobody can get is no result."""

    tries: int
    again: Micros | None
    """When to try once more; None while a fetch is under way."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Waits for an auditor to open its seal."""

    auditor: PeerId
    until: Micros


@dataclass(frozen=True, slots=True)
class Scoring:
    """Waits for an auditor's results to be here, and then for their comparison within a tolerance."""

    auditor: PeerId
    output: Digest
    """Of the results."""
    until: Micros
    results: Results | None = None
    """None: not here yet."""
    task: str = ""
    """The comparison under way."""


@dataclass(frozen=True, slots=True)
class Checking:
    """Waits for the seals of auditors who look at the revealed output: they make its files of the last state once
    more, or run the job's own check over it."""

    auditors: tuple[PeerId, ...]
    until: Micros


@dataclass(frozen=True, slots=True)
class Charge:
    """What a claim was found to be, and in which units."""

    outcome: Found
    code: str
    settled: Settlement | None = None
    """How executions by others ended; None where it took none."""
    units: tuple[int, ...] = ()
    """Bad ones; empty where it is about something else, or nobody knows."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """Waits for the provider to show that a bad unit came to it from the earlier lease whose provider signed for it."""

    charge: Charge
    entry: Inherited
    unit: int
    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Decided:
    """The verdict is signed; waits for the ledger to apply it."""

    verdict: SignedOp
    sent: Micros


State = (
    Gathering | Quoting | Unfolding | Auditing | Revealing | Fetching | Opening | Scoring | Checking | Tracing | Decided
)

STATES: Final = (
    Gathering,
    Quoting,
    Unfolding,
    Auditing,
    Revealing,
    Fetching,
    Opening,
    Scoring,
    Checking,
    Tracing,
    Decided,
)
"""In the order of an audited claim whose auditor agrees."""


Purpose = Literal["work", "finish", "check"]


@dataclass(slots=True)
class Hearing:
    """The executions of one purpose: of the work itself, of what makes output files of its last state, or of the job's
    check."""

    purpose: Purpose
    wanted: int
    """Auditors who must agree with the claim."""
    findings: list[Finding] = field(default_factory=list)
    seals: dict[PeerId, Digest] = field(default_factory=dict)
    """Commitments that are not opened yet, in the order in which they came."""
    tried: dict[PeerId, None] = field(default_factory=dict)
    """Who was asked, in the order of the draw: that in which they open, so that every judge hears the same first."""
    failures: dict[PeerId, int] = field(default_factory=dict)
    unreachable: int = 0
    """Failures of auditors who could not get what the provider owes them."""
    mute: set[PeerId] = field(default_factory=set)
    """Who failed in another way, which is their own doing where somebody else does not fail."""


@dataclass(slots=True)
class Unfolded:
    """What the provider has opened of its trace."""

    opened: UnitsOpened
    """As it came: the claimed effects, and the leaves before the units."""
    indices: tuple[int, ...] = ()
    """Units that the challenge asks for."""
    leaves: dict[int, Leaf] = field(default_factory=dict)

    @property
    def effects(self) -> bytes:
        """Two bytes per unit."""
        return self.opened.effects


@dataclass(slots=True)
class Case:
    """A claim in judgement. What changes with time is in `state`; the rest is evidence as it comes in."""

    place: Place
    provider: PeerId
    steward: PeerId
    renter: PeerId
    spec: Digest
    sealed: Digest
    due: Micros
    """When the ledger stops waiting for a verdict, on our clock."""
    state: State
    beacon: Digest = Digest(b"")
    """Empty until it is known."""
    consecutive_valid: int = 0
    """Of the provider, at the block of the claim: every judge draws from the same number."""
    on_probation: bool = False
    took: Micros = Micros(0)
    """Microseconds from the lease to the claim, on the ledger's clock."""
    done_ppm: int = 0
    """Share of the chunk that others had done and handed over."""
    floor: Callable[[int], int] = int
    """The job's own share of audits to the share in force."""
    inherited: tuple[Inherited, ...] = ()
    """Who answers for the first units of a claim that went on from a snapshot, oldest first."""
    signers: frozenset[PeerId] = frozenset()
    """Providers of those earlier leases."""
    trace: bytes = b""
    """The trace root that the claim carries, if it does."""
    units: int = 0
    """Units that it says it has."""
    facts: Facts | None = None
    seed: bytes = b""
    """The challenge."""
    unfolded: Unfolded | None = None
    reveal: Reveal | None = None
    last: Leaf | None = None
    """The last leaf of the trace, once it is opened."""
    hearing: Hearing | None = None
    upheld: Settlement | None = None
    """How the executions of the work ended, while other hearings are still running."""
    finished: Settlement | None = None
    """The same of the output files."""
    turn: int = 0
    """Draws so far."""
    heard: set[bytes] = field(default_factory=set)
    """Seals that were taken: one that comes once more is an echo."""
    contradiction: Digest = Digest(b"")
    """Id of another claim that the provider signed for the same lease."""
    is_extra: bool = False
    """Audited although the beacon did not draw it, because this judge alone has a reason and is not the only one: what
    others do not do must not make its acceptance another than theirs."""
    quote: Quote | None = None
    """Evidence of trusted hardware that has spared it an audit for which it was drawn."""
    repeats: int = 0
    """How often its verdict was sent again because the ledger did not apply it."""
    others: dict[Digest, set[PeerId]] = field(default_factory=dict)
    """Id of a verdict of other judges -> who signed it (`verifier.concurrence`)."""
    joined: dict[Digest, SignedOp] = field(default_factory=dict)
    """Verdicts of others that this judge signed besides its own, by their ids."""
    code: str = "not_sampled"
    """Why an accepted result was not executed again."""
    telling: Heard | None = None
    """What the newest auditor to open has opened, until it counts."""
    heard_of: list[Heard] = field(default_factory=list)
    """Every execution that counted, for whoever asks later what the verdict rests on."""

    @property
    def parties(self) -> frozenset[PeerId]:
        """Who may have no word about it: whoever did it or a part of it, pays for it, or carries its job."""
        return frozenset((self.provider, self.renter, self.steward)) | self.signers

    @property
    def is_traced(self) -> bool:
        """Whether the job has this step proven unit by unit."""
        return self.facts is not None and self.facts.units_of(self.place[1]) > 0

    @property
    def is_too_fast(self) -> bool:
        """Whether it came sooner than the fastest machine there is would need. Every judge reads the same numbers."""
        return self.facts is not None and self.took < self.facts.least(self.place[1], self.done_ppm)


def verdict_of(case: Case, first: PeerId, charge: Charge, blamed: int = 0) -> Verdict:
    """The operation that says what was found. `blamed`: epoch of the earlier lease whose provider is at fault.

    Where nobody executed anything the first validator stands for all: signatures add up only over equal bytes."""
    settled = charge.settled
    by = settled.by if settled is not None else None
    faulted = settled.faulted if settled is not None else ()
    return Verdict(
        *case.place,
        outcome=charge.outcome,
        is_audited=by is not None,
        auditor=by.auditor if by is not None else first,
        output=Digest(case.reveal.output) if case.reveal is not None else ZERO_DIGEST,
        evidence=_evidence(case, charge),
        code=charge.code,
        score=UNSET if by is None or by.score is None else by.score // SCORE_STEP * SCORE_STEP,
        faulted=faulted[:NAMED_MAX] or UNSET,
        agreed=_sharing(settled, case.parties) or UNSET,
        blamed=blamed or UNSET,
    )


def _evidence(case: Case, charge: Charge) -> Digest:
    if charge.settled is not None:
        return charge.settled.by.output
    if case.contradiction:
        return case.contradiction
    if case.trace and charge.code in OF_TRACE:
        return Digest(case.trace)
    if case.reveal is None or charge.code == "seal_mismatch":
        return case.sealed
    return Digest(case.reveal.output)


def _sharing(settled: Settlement | None, parties: Collection[PeerId]) -> tuple[PeerId, ...]:
    """Who shares what auditors get with the one that is named; the ledger pays nobody with a side."""
    if settled is None or settled.by.auditor in parties:
        return ()
    return tuple(peer for peer in settled.agreed if peer not in parties and peer not in settled.faulted)[:NAMED_MAX]
