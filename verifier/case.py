"""One claim before its judge: what is known, and exactly what is being waited for. Spec: specs/11-verification.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.messages import Reveal
from protocol.operations import SignedOp, Verdict
from protocol.units import Digest, Micros, PeerId

Place = tuple[bytes, int, int]
"""Escrow, chunk, epoch."""

Found = Literal["accept", "wrong", "missing"]


# ── what a judge reads of the ledger ─────────────────────────────────────────────────────────────────────────────────
class LeaseView(Protocol):
    """The newest lease of a chunk (`protocol.escrow_state.ChunkLease`)."""

    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def provider(self) -> bytes: ...
    @property
    def verdict_by(self) -> int: ...
    @property
    def claimed_in(self) -> bytes: ...
    @property
    def sealed(self) -> bytes: ...
    @property
    def output(self) -> bytes: ...


class EscrowView(Protocol):
    """A job's money (`protocol.escrow_state.Escrow`)."""

    @property
    def owner(self) -> bytes: ...
    @property
    def steward(self) -> bytes: ...
    @property
    def spec(self) -> bytes: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def chunks(self) -> Mapping[int, LeaseView]: ...


class RecordView(Protocol):
    """A provider's sums (`protocol.escrow_state.Standing`)."""

    @property
    def consecutive_valid(self) -> int: ...


class LedgerView(Protocol):
    """The state of the ledger between two blocks."""

    @property
    def time(self) -> int: ...
    @property
    def escrows(self) -> Mapping[bytes, EscrowView]: ...
    @property
    def standings(self) -> Mapping[bytes, RecordView]: ...


# ── what it reads of the specification ───────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Facts:
    """The part of a specification that a verdict depends on."""

    digest: Digest
    size: int
    audit_ppm: int
    chunks: int
    steps: int
    disk_bytes: int
    timeout: Micros
    numeric: str
    runtime: str
    is_interactive: bool
    """The renter reaches in while it runs: nobody can execute it again, so it is never drawn."""

    @classmethod
    def of(cls, digest: Digest, size: int, spec: JobSpec) -> Facts:
        """Taken from a whole specification, whose encoding has `size` bytes."""
        return cls(
            digest,
            size,
            spec.audit_ppm,
            len(spec.chunks),
            spec.steps,
            spec.resources.disk_bytes,
            spec.timeout,
            spec.numeric,
            spec.runtime,
            spec.is_interactive,
        )


# ── states: one type each ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Gathering:
    """Waits for the specification."""

    until: Micros
    asked: Micros


@dataclass(frozen=True, slots=True)
class Auditing:
    """Waits for the seal of the auditor, who executes. The provider's output may be known (a second execution)."""

    auditor: PeerId
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
    """Waits for the auditor to open its seal."""

    auditor: PeerId
    until: Micros


@dataclass(frozen=True, slots=True)
class Decided:
    """The verdict is signed; waits for the ledger to apply it."""

    verdict: SignedOp
    sent: Micros


State = Gathering | Auditing | Revealing | Fetching | Opening | Decided

STATES: Final = (Gathering, Auditing, Revealing, Fetching, Opening, Decided)
"""In the order of an audited claim whose auditor agrees."""


@dataclass(slots=True)
class Finding:
    """An execution that disagreed with the claim."""

    auditor: PeerId
    output: Digest


@dataclass(slots=True)
class Case:
    """A claim in judgement. What changes with time is in `state`; the rest is evidence as it comes in."""

    place: Place
    provider: PeerId
    steward: PeerId
    renter: PeerId
    spec: Digest
    sealed: Digest
    beacon: Digest
    consecutive_valid: int
    """Of the provider, at the block of the claim: every judge draws from the same number."""
    due: Micros
    """When the ledger stops waiting for a verdict, on our clock."""
    state: State
    facts: Facts | None = None
    reveal: Reveal | None = None
    seal: tuple[PeerId, Digest] | None = None
    """An auditor's commitment that is not opened yet."""
    finding: Finding | None = None
    turn: int = 0
    failures: int = 0
    tried: set[PeerId] = field(default_factory=set)
    code: str = "not_sampled"
    """Why an accepted result was not executed again."""


def verdict_of(
    case: Case, first: PeerId, outcome: Found, code: str, audit: tuple[PeerId, Digest] | None = None
) -> Verdict:
    """The operation that says what was found. `audit` = who executed it again, and that output, when it decided.

    Without an audit the first validator stands for all: signatures add up only over equal bytes."""
    output = Digest(case.reveal.output) if case.reveal is not None else ZERO_DIGEST
    if audit is not None:
        evidence = audit[1]
    elif case.reveal is None or code == "seal_mismatch":
        evidence = case.sealed
    else:
        evidence = output
    return Verdict(
        *case.place,
        outcome=outcome,
        is_audited=audit is not None,
        auditor=audit[0] if audit is not None else first,
        output=output,
        evidence=evidence,
        code=code,
    )
