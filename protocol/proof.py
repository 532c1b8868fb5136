"""What a job says about how its results are proven, and what a provider commits to and opens. Spec: specs/31-units.md.

A chunk's work is cut into *units*. Before unit i the work has `state_i`; the *trace* is the list of all of them, under
one Merkle root that the claim carries. Auditors replay units that a beacon chose after the claim.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

UNITS_MAX: Final = 4096
"""Units of one chunk: a Merkle path of 13 hashes, and an opening of all claimed effects that fits one message."""

SAMPLES_MAX: Final = 64
"""Units of one chunk that one audit replays: 44 by lot and 3 besides find one bad unit in ten 99 times in 100, and the
openings of 64 still fit one message of 64 KiB."""

PATH_MAX: Final = 13
"""Hashes from a leaf to the root of UNITS_MAX + 2 leaves."""

STATE_BYTES_MAX: Final = 256 << 20
"""Bytes of one state: what an auditor fetches, and a comparison holds twice in memory."""

PPT: Final = 10**12
"""Tolerances and errors are integers in parts per trillion: the smallest honest error measured is 1e-7."""

WORK_MAX: Final = 2**62
"""Operations, or bytes, that a chunk may be said to take: a day of the fastest card there is."""

IMAGES_MAX: Final = 16
"""Images of one maker that a job allows: a few releases of the node on a few kinds of machine."""

VERSIONS_MAX: Final = 16
"""Parts of a platform with a security version of their own: TDX has 16, SEV-SNP 8."""

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Index = Annotated[int, Meta(ge=0, le=UNITS_MAX)]
Size = Annotated[int, Meta(ge=0, le=STATE_BYTES_MAX)]

Kind = Literal["deterministic", "certificate", "training", "inference", "rendering", "scientific", "general"]
"""Classes of work, each with its own comparison (`verifier.comparing`)."""

HardwareKind = Literal["tdx", "sev-snp", "nvidia"]
"""Trusted hardware whose quotes are read: Intel's and AMD's virtual machines, and NVIDIA's cards behind either."""

Image = Annotated[bytes, Meta(min_length=48, max_length=48)]
"""SHA-384 of what a machine measured of its own software."""

Numeric = Literal["D0", "D1", "D2", "D3"]
"""D0 integers, D1 floats that are equal everywhere, D2 equal where the runtime is, D3 within a tolerance."""


class Tolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """How far apart two honest replays may be, calibrated per task, optimizer and pair of machine classes."""

    t_ok: Annotated[int, Meta(ge=1, le=PPT)]
    """Parts per trillion: five times the largest honest error of at least 200 runs."""
    t_bad: Annotated[int, Meta(ge=1, le=1000 * PPT)]
    """Parts per trillion: half the smallest error of the cheat battery."""
    profile: Annotated[str, Meta(max_length=64)] = ""
    """Name of the calibration from which the two come."""


class Hardware(Struct, frozen=True, forbid_unknown_fields=True):
    """Machines of one maker whose quotes count as evidence for a job (specs/40-attestation.md)."""

    kind: HardwareKind
    images: Annotated[tuple[Image, ...], Meta(min_length=1, max_length=IMAGES_MAX)]
    """Measured images that may compute it."""
    versions: Annotated[tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(max_length=VERSIONS_MAX)] = ()
    """Least security version of each part of the platform, in the maker's order; parts that are not named: any."""


class Proof(Struct, frozen=True, forbid_unknown_fields=True):
    """How results of a job are proven. Without one, a chunk is one unit and outputs are compared as hashes."""

    kind: Kind
    units: Annotated[int, Meta(ge=0, le=UNITS_MAX)] = 0
    """Units of each chunk; 0: the whole chunk is the unit, and its output is compared."""
    samples: Annotated[int, Meta(ge=1, le=SAMPLES_MAX)] = 4
    """Units that one audit replays."""
    auditors: Annotated[int, Meta(ge=1, le=5)] = 1
    """Auditors of a drawn claim who must agree with it."""
    tolerance: Tolerance | UnsetType = UNSET
    """For D3 only."""
    check: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=4096)], ...], Meta(max_length=8)] = ()
    """Lines that an auditor runs over every revealed result, found at `$SHOAL_IN/result`; all must end with 0."""
    flops: Annotated[int, Meta(ge=1, le=WORK_MAX)] | UnsetType = UNSET
    """Operations that one chunk takes at least: who is faster than any machine is audited in any case."""
    bytes_moved: Annotated[int, Meta(ge=1, le=WORK_MAX)] | UnsetType = UNSET
    """Bytes that one chunk moves through memory at least, for the same."""
    hardware: Annotated[tuple[Hardware, ...], Meta(min_length=1, max_length=3)] | UnsetType = UNSET
    """Whose quotes make an audit of a result less likely. Unset: nobody's, and nobody is asked for any."""


class Leaf(Struct, frozen=True, forbid_unknown_fields=True):
    """One leaf of a trace. Digests are BLAKE3 of files. Leaf n, behind the last unit, has zeros for input and aux."""

    index: Index
    state: Hash32
    state_bytes: Size
    input: Hash32
    """What unit `index` reads, from the specification alone."""
    aux: Hash32
    """What unit `index` said about itself: losses, norms, its first gradient, a fingerprint."""
    aux_bytes: Size


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """A leaf and its Merkle path to the claim's trace root."""

    leaf: Leaf
    path: Annotated[tuple[Hash32, ...], Meta(max_length=PATH_MAX)]


class Trace(Struct, frozen=True, forbid_unknown_fields=True):
    """All leaves 0..n of one execution, and the claimed effect of each unit: a blob that its provider keeps."""

    leaves: Annotated[tuple[Leaf, ...], Meta(min_length=2, max_length=UNITS_MAX + 1)]
    effects: Annotated[bytes, Meta(max_length=2 * UNITS_MAX)]
    """Two bytes per unit, big endian: round(1000 × log2(1 + 1e9 × effect)), cut at 65535. The leaf n+1 of the tree."""

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.leaves) - 1


class UnitResult(Struct, frozen=True, forbid_unknown_fields=True):
    """What an auditor got for one unit. A replay that makes no next state (inference) has zeros there."""

    index: Index
    input: Hash32
    state: Hash32
    """Of state_{index+1}."""
    state_bytes: Size
    aux: Hash32
    aux_bytes: Size


class Results(Struct, frozen=True, forbid_unknown_fields=True):
    """An auditor's replay of some units: a blob, whose digest it seals."""

    units: Annotated[tuple[UnitResult, ...], Meta(min_length=1, max_length=SAMPLES_MAX)]
    output: Hash32
    """Digest of the output manifest where the last unit was replayed, zeros otherwise."""
