"""What judges, providers and auditors say to each other about one claim. Spec: specs/11-verification.md."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.jobspec import Bytes32, NonNegative
from protocol.operations import Hash, Key, Reason
from protocol.proof import SAMPLES_MAX, UNITS_MAX, Index, Leaf, Opening

ChunkIndex = Annotated[int, Meta(ge=0, le=4096)]
Epoch = Annotated[int, Meta(ge=1, le=1_000)]


class Reveal(Struct, frozen=True, forbid_unknown_fields=True, tag="reveal"):
    """The provider opens its claim, to the validators and the steward, once the beacon has decided about an audit."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    output: Bytes32
    output_bytes: NonNegative
    salt: Bytes32
    openings: Annotated[tuple[Opening, ...], Meta(max_length=SAMPLES_MAX + 1)] = ()
    """Of a traced claim: the leaves behind the units that are audited, and the last leaf."""


class UnitsRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="units_request"):
    """A validator asks for the leaves before the units that the beacon chose."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    indices: Annotated[tuple[Index, ...], Meta(max_length=SAMPLES_MAX)]


class UnitsOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="units_opened"):
    """The provider opens leaves of its trace, and the claimed effects of all units (leaf n + 1)."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    openings: Annotated[tuple[Opening, ...], Meta(max_length=SAMPLES_MAX)]
    effects: Annotated[bytes, Meta(max_length=2 * UNITS_MAX)]
    effects_path: Annotated[tuple[Bytes32, ...], Meta(max_length=13)]


class RevealRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="reveal_request"):
    """A validator asks for the opening (again); the auditor's commitment, if there is one, is already fixed."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch


class PrefixRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="prefix_request"):
    """A validator found a unit bad that lies before the one at which the lease went on: show who committed to it."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    inherited: Epoch
    """Which of the claim's `inherited` is meant, by its epoch."""
    index: Annotated[int, Meta(ge=0, le=UNITS_MAX)]
    """The unit."""


class PrefixOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="prefix_opened"):
    """Leaves `index` and `index + 1` in the trace of those first units."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    inherited: Epoch
    before: Opening
    after: Opening


class AuditRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="audit_request"):
    """A validator draws the receiver to execute a chunk again, blind."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    spec: Bytes32
    spec_size: Annotated[int, Meta(ge=1, le=16 << 20)]
    outputs: Annotated[tuple[Bytes32, ...], Meta(max_length=4096)]
    sources: Annotated[tuple[Key, ...], Meta(max_length=64)]
    renter: Key
    units: Annotated[tuple[Leaf, ...], Meta(max_length=SAMPLES_MAX)] = ()
    """Replay these units from their states, instead of the whole chunk."""
    seed: Annotated[bytes, Meta(max_length=32)] = b""
    """The challenge, of which a replay may choose the part of a unit that it computes."""
    result: Annotated[bytes, Meta(max_length=32)] = b""
    """Instead of executing anything, run the job's `check` over this output manifest."""
    last: Leaf | UnsetType = UNSET
    """Instead of executing any unit, make the output files of this last state: leaf n, as the provider opened it."""


class AuditCommit(Struct, frozen=True, forbid_unknown_fields=True, tag="audit_commit"):
    """The auditor's result under seal: `seal(auditor, salt, output)`."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    sealed: Hash


class AuditOpenRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="audit_open_request"):
    """The validator has the provider's opening; now the auditor opens too."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch


class AuditReveal(Struct, frozen=True, forbid_unknown_fields=True, tag="audit_reveal"):
    """The auditor opens its seal. A failed execution is an output of zeros and a reason."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    output: Bytes32
    salt: Bytes32
    reason: Reason


class InputsNotice(Struct, frozen=True, forbid_unknown_fields=True, tag="inputs"):
    """The steward tells the validators what a lease reads, so that any of them can have it executed again."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    spec: Bytes32
    spec_size: Annotated[int, Meta(ge=1, le=16 << 20)]
    outputs: Annotated[tuple[Bytes32, ...], Meta(max_length=4096)]
    sources: Annotated[tuple[Key, ...], Meta(max_length=64)]
