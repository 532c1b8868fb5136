"""The specification of a job: what is hashed, signed for, executed and audited. Spec: specs/05-job.md.

A specification is complete: whoever holds it and the blobs that it names computes the same output.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.overlay.place import Region
from protocol.proof import Numeric, Proof
from protocol.units import Credits, Digest, Micros

CHUNKS_MAX: Final = 4096
FILES_MAX: Final = 2048
PATH_CHARS_MAX: Final = 512
COMMAND_CHARS_MAX: Final = 4096
PORTS_MAX: Final = 16
TREES_MAX: Final = 16
TREE_BYTES_MAX: Final = 64 << 20

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Text = Annotated[str, Meta(max_length=256)]
Path = Annotated[str, Meta(min_length=1, max_length=PATH_CHARS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
NonNegative = Annotated[int, Meta(ge=0, le=2**62)]
Positive = Annotated[int, Meta(ge=1, le=2**62)]
Command = Annotated[str, Meta(min_length=1, max_length=COMMAND_CHARS_MAX)]
EnvPair = tuple[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], Annotated[str, Meta(max_length=4096)]]


class FileRef(Struct, frozen=True, forbid_unknown_fields=True):
    """One input file, mounted read-only at `/in/<path>`; the content is the blob `digest`."""

    path: Path
    digest: Bytes32
    size: NonNegative
    executable: bool = False


class TreeRef(Struct, frozen=True, forbid_unknown_fields=True):
    """A folder tree (specs/29-volumes.md): code below `/in`, or a version of a volume at `/vol/<name>`."""

    mount: Path
    digest: Bytes32
    """Of its list, a blob that names the pieces of its content."""
    list_bytes: Annotated[int, Meta(ge=1, le=TREE_BYTES_MAX)]
    size: NonNegative
    """Bytes of all its files."""
    volume: Annotated[str, Meta(max_length=129)] = ""
    """The renter's name for the volume; empty for code. While the digest is zeros, `name@version` is wanted, and the
    node that keeps the volume fills in the rest."""
    is_writable: bool = False
    """What the chunk leaves there is part of its output, and the volume's next version once that is accepted."""


class Chunk(Struct, frozen=True, forbid_unknown_fields=True):
    """One independent piece of the job: its own variables on top of the job's."""

    env: Annotated[tuple[EnvPair, ...], Meta(max_length=64)] = ()


class GpuNeed(Struct, frozen=True, forbid_unknown_fields=True):
    """The GPU grammar `vendor:names:memory-range:count-range`, parsed. Count 0 = no GPU wanted."""

    vendor: Text = ""
    names: Annotated[tuple[Text, ...], Meta(max_length=16)] = ()
    memory_bytes_min: NonNegative = 0
    memory_bytes_max: NonNegative = 0
    """0 = no upper bound."""
    count: Annotated[int, Meta(ge=0, le=64)] = 0


class Resources(Struct, frozen=True, forbid_unknown_fields=True):
    """What one chunk needs, and the limits that its sandbox enforces."""

    cpus_milli: Annotated[int, Meta(ge=100, le=256_000)] = 1000
    memory_bytes: Positive = 1 << 30
    disk_bytes: Positive = 1 << 30
    shm_bytes: NonNegative = 64 << 20
    pids: Annotated[int, Meta(ge=1, le=4096)] = 128
    gpu: GpuNeed = GpuNeed()


class Placement(Struct, frozen=True, forbid_unknown_fields=True):
    """Where chunks may run, seen from the steward that carries the job."""

    latency_ms_max: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Milliseconds of estimated round trip; 0 = any."""
    regions: Annotated[tuple[Region, ...], Meta(max_length=16)] = ()
    """Only providers whose owner said one of these; empty = anywhere."""
    is_strict: bool = False
    """Leave out providers whose latency is unknown, instead of asking them last."""


ANYWHERE: Final = Placement()


class Checkpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """How a chunk is protected while it runs (specs/28-recovery.md)."""

    is_on: bool = True
    every: Annotated[Micros, Meta(ge=0, le=300_000_000)] = Micros(0)
    """Microseconds between snapshots, at most five minutes (features S1); 0: the platform chooses."""
    profile: Literal["min-loss", "max-efficiency"] = "min-loss"
    state_bytes: NonNegative = 0
    """Bytes of a snapshot as the renter expects them, for what is told before the start; 0: not said."""


PLATFORM_CHOICE: Final = Checkpoint()

PROTECTED_FROM: Final = Micros(10_000_000)
"""Microseconds that a chunk is expected to take at least before snapshots of it are worth their trouble, where its
renter has not asked for them: the shortest interval that the platform chooses is as long."""


class JobSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole job. `digest` of its encoding is what leases and verdicts name."""

    name: Name
    runtime: Text
    """`python` (standard library only), `torch`, `wasm`, or `image:<reference>`."""
    commands: Annotated[tuple[Command, ...], Meta(max_length=32)]
    """Shell lines run in order in `/in`; for `wasm` one line: the module's path, then its arguments."""
    chunks: Annotated[tuple[Chunk, ...], Meta(min_length=1, max_length=CHUNKS_MAX)]
    files: Annotated[tuple[FileRef, ...], Meta(max_length=FILES_MAX)] = ()
    env: Annotated[tuple[EnvPair, ...], Meta(max_length=64)] = ()
    reduce: Annotated[tuple[Command, ...], Meta(max_length=32)] = ()
    """Run once after all chunks, as chunk number `len(chunks)`, their outputs at `/in/chunks/<i>/`. Empty = none."""
    resources: Resources = Resources()
    timeout: Annotated[Micros, Meta(ge=100_000, le=86_400_000_000)] = Micros(120_000_000)
    """Wall time of one chunk, 120 s unless said (features N2)."""
    estimate: Annotated[Micros, Meta(ge=1_000, le=86_400_000_000)] = Micros(30_000_000)
    """What a chunk is expected to take; its fixed price is hourly price × estimate."""
    price_per_hour_max: Annotated[Credits, Meta(ge=0, le=2**62)] = Credits(1_000_000)
    spend_cap: Annotated[Credits, Meta(ge=1, le=2**62)] = Credits(10_000_000)
    audit_ppm: Annotated[int, Meta(ge=0, le=1_000_000)] = 100_000
    """Floor of the share of results that is executed again: 10 % (features V2)."""
    attempts_max: Annotated[int, Meta(ge=1, le=16)] = 5
    """Leases of a chunk in a row that may end without having moved it on; then the job fails."""
    fuel: NonNegative = 10_000_000_000
    """WASM only: instructions that one chunk may use."""
    numeric: Numeric = "D2"
    """D0, D1 = any honest machine computes the same bytes; D2 = machines of the same runtime digest do; D3 = within a
    tolerance."""
    placement: Placement | UnsetType = UNSET
    """Unset is not encoded: a job that may run anywhere has the digest that it always had."""
    ports: Annotated[tuple[Annotated[int, Meta(ge=1, le=65_535)], ...], Meta(max_length=PORTS_MAX)] = ()
    """Ports that a chunk serves on its own loopback, for the renter alone (specs/24-tunnels.md)."""
    shell: bool = False
    """Whether the renter may start a shell beside the chunk's processes."""
    trees: Annotated[tuple[TreeRef, ...], Meta(min_length=1, max_length=TREES_MAX)] | UnsetType = UNSET
    """Unset is not encoded: a job without trees has the digest that it always had."""

    checkpoint: Checkpoint | UnsetType = UNSET
    """Unset: the platform chooses, and the digest is what it always was."""
    proof: Proof | UnsetType = UNSET
    """Unset: every chunk is one unit, and its output is compared as a hash."""
    trust: Literal["basic", "standard", "high", "certain"] | UnsetType = UNSET
    """How sure the renter wants to be (specs/39-trust.md). Unset: what `audit_ppm` says, and one auditor."""

    @property
    def units(self) -> int:
        """Units of a chunk that are traced; 0: none, the output is compared as a whole."""
        return self.proof.units if isinstance(self.proof, Proof) else 0

    def units_of(self, chunk: int) -> int:
        """The same of one step: the reduce step has none."""
        return self.units if chunk < len(self.chunks) else 0

    def is_checked(self, chunk: int) -> bool:
        """Whether the job's own check is run over what a step puts out: not over the reduce step's."""
        return isinstance(self.proof, Proof) and bool(self.proof.check) and chunk < len(self.chunks)

    @property
    def protection(self) -> Checkpoint:
        """How chunks are protected."""
        return self.checkpoint if isinstance(self.checkpoint, Checkpoint) else PLATFORM_CHOICE

    def can_be_saved(self, chunk: int) -> bool:
        """Whether snapshots of a step can be taken. A WASM module has no hook: only between its units."""
        return self.runtime != "wasm" or self.units_of(chunk) > 0

    @property
    def is_protected(self) -> bool:
        """Whether snapshots of running chunks are wanted at all."""
        if not self.protection.is_on or not self.can_be_saved(0):
            return False
        return isinstance(self.checkpoint, Checkpoint) or self.estimate >= PROTECTED_FROM

    @property
    def steps(self) -> int:
        """Chunks to execute, the reduce step included."""
        return len(self.chunks) + (1 if self.reduce else 0)

    @property
    def where(self) -> Placement:
        """The placement, or the one that allows everything."""
        return self.placement if isinstance(self.placement, Placement) else ANYWHERE

    @property
    def mounts(self) -> tuple[TreeRef, ...]:
        """The trees, if there are any."""
        return self.trees if isinstance(self.trees, tuple) else ()

    @property
    def is_interactive(self) -> bool:
        """Whether the renter can reach into a chunk, so that nobody else can compute its output again."""
        return bool(self.ports) or self.shell


class OutputFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file that a chunk left in `/out`."""

    path: Path
    digest: Bytes32
    size: NonNegative


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a chunk put out, sorted by path. The digest of its encoding is the chunk's output digest."""

    files: Annotated[tuple[OutputFile, ...], Meta(max_length=FILES_MAX)]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


ZERO_DIGEST: Final = Digest(bytes(32))
