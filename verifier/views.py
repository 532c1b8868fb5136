"""What a judge reads of the world: the ledger between two blocks, and that of a specification which verdicts need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from protocol import trust
from protocol.jobspec import JobSpec
from protocol.operations import Inherited
from protocol.proof import Hardware, Kind, Numeric, Proof, Tolerance
from protocol.units import PPM, Digest, Micros
from protocol.validators import ValidatorSet
from verifier.plausibility import hard_floor

EXACT: Final = Tolerance(t_ok=1, t_bad=5)
"""Parts per trillion: the tolerance of bitwise classes, where a comparison is needed because a replay is partial."""


# ── of the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────
class LeaseView(Protocol):
    """The newest lease of a chunk (`protocol.escrow_state.ChunkLease`)."""

    @property
    def epoch(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def provider(self) -> bytes: ...
    @property
    def price(self) -> int: ...
    @property
    def verdict_by(self) -> int: ...
    @property
    def assigned_at(self) -> int: ...
    @property
    def claimed_at(self) -> int: ...
    @property
    def done_ppm(self) -> int: ...
    @property
    def claimed_in(self) -> bytes: ...
    @property
    def sealed(self) -> bytes: ...
    @property
    def trace(self) -> bytes: ...
    @property
    def units(self) -> int: ...
    @property
    def former(self) -> Mapping[int, bytes]: ...
    @property
    def tainted(self) -> Mapping[int, bytes]: ...
    @property
    def inherited(self) -> Mapping[int, bytes]: ...
    @property
    def prefixes(self) -> tuple[Inherited, ...]: ...
    @property
    def beacon(self) -> bytes: ...
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
    @property
    def probation(self) -> int: ...


class LedgerView(Protocol):
    """The state of the ledger between two blocks."""

    @property
    def time(self) -> int: ...
    @property
    def escrows(self) -> Mapping[bytes, EscrowView]: ...
    @property
    def standings(self) -> Mapping[bytes, RecordView]: ...
    @property
    def validators(self) -> ValidatorSet: ...


def outputs_read(escrow: EscrowView, chunk: int, chunks: int) -> tuple[Digest, ...] | None:
    """What a step of a job of so many chunks has read of earlier ones; None when one of them is not there any more."""
    if chunk < chunks:
        return ()
    found = [lease for index in range(chunks) if (lease := escrow.chunks.get(index)) is not None and lease.output]
    return tuple(Digest(lease.output) for lease in found) if len(found) == chunks else None


# ── of the specification ─────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The part of a specification that a verdict depends on."""

    digest: Digest
    size: int
    floor_ppm: int
    """Share of claims that are audited at least; 0 where the renter reaches in, so that nobody can do it again."""
    chunks: int
    steps: int
    disk_bytes: int
    timeout: Micros
    numeric: Numeric
    runtime: str
    is_interactive: bool = False
    kind: Kind = "deterministic"
    units: int = 0
    """Of each chunk; the reduce step has none."""
    samples: int = 1
    auditors: int = 1
    tolerance: Tolerance = EXACT
    has_check: bool = False
    hardware: tuple[Hardware, ...] = ()
    """Machines whose quotes count as evidence."""
    hard_floor: Micros = Micros(0)
    """Microseconds that a chunk takes on the fastest machine there is, by the job's own word; 0: not said."""

    @classmethod
    def of(cls, digest: Digest, size: int, spec: JobSpec) -> Facts:
        """Taken from a whole specification, whose encoding has `size` bytes."""
        terms, proof = trust.terms(spec), spec.proof if isinstance(spec.proof, Proof) else None
        tolerance = proof.tolerance if proof is not None else None
        return cls(
            digest=digest,
            size=size,
            floor_ppm=terms.floor_ppm,
            chunks=len(spec.chunks),
            steps=spec.steps,
            disk_bytes=spec.resources.disk_bytes,
            timeout=spec.timeout,
            numeric=spec.numeric,
            runtime=spec.runtime,
            is_interactive=spec.is_interactive,
            kind=proof.kind if proof is not None else "deterministic",
            units=spec.units,
            samples=terms.samples,
            auditors=terms.auditors,
            tolerance=tolerance if isinstance(tolerance, Tolerance) else EXACT,
            has_check=proof is not None and bool(proof.check),
            hardware=proof.hardware or () if proof is not None else (),
            hard_floor=hard_floor(spec),
        )

    def least(self, chunk: int, done_ppm: int) -> Micros:
        """Microseconds that a step takes at least when a share of it was done before; the reduce step: 0."""
        return Micros(self.hard_floor * (PPM - done_ppm) // PPM if chunk < self.chunks else 0)

    def units_of(self, chunk: int) -> int:
        """Units of one step; 0 where its output is compared as a whole."""
        return self.units if chunk < self.chunks else 0

    def is_checked(self, chunk: int) -> bool:
        """Whether the job's own check is run over every result of this step."""
        return self.has_check and chunk < self.chunks

    @property
    def is_exact(self) -> bool:
        """Whether honest machines get equal bits, so that two who agree prove a third wrong."""
        return self.numeric != "D3"
