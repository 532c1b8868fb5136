"""Answers of the driver to a machine's `Compute`, and what it tells of by itself. They never cross a wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Head, JobNotice, Offer
from protocol.quote_messages import Evidence
from protocol.snapshots import Pack, Tier
from protocol.units import Digest, PeerId
from protocol.wire import Signed


@dataclass(frozen=True, slots=True)
class Fetched:
    """The blob is here, complete, and hashes to its digest."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """No source delivered the blob."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Inputs are in place and the sandbox runs."""

    task: str
    executor: str


@dataclass(frozen=True, slots=True)
class RunLog:
    """Complete lines that a task wrote, in order."""

    task: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunDone:
    """A task ended. `reason`: ok | exit | timeout | memory | disk | stopped | sandbox | inputs."""

    task: str
    reason: str
    exit_code: int
    output: Digest
    """The digest of the output manifest blob (all zero when `reason` is not `ok`)."""
    output_bytes: int
    seconds: float
    detail: str
    trace: Digest = ZERO_DIGEST
    """Of a job with units: digest of the `Trace` blob."""
    begun: int = 0
    """Of a job with units: the unit at which it went on from a snapshot."""


@dataclass(frozen=True, slots=True)
class UnitError:
    """How far a unit within its tolerance was off, and where to: integers in parts per trillion of its update."""

    size: int
    along: int
    """How much too far it went in the direction of the update."""
    sketch: tuple[int, ...]
    """Its direction, reduced by a secret of the judge (`verifier.drift`)."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Units were compared. A blob that cannot be fetched or parsed is the fault of who owes it."""

    task: str
    score: int
    """Parts per million, the worst of all units."""
    code: str
    """`within_tolerance`, or why not: the reason of the worst unit."""
    evidence: Digest
    """Digest of the report blob: every unit's error, for people and for appeals."""
    fault: Literal["", "provider", "auditor"] = ""
    """Whose blob was missing or malformed."""
    errors: tuple[UnitError, ...] = ()
    """Of units of training within the tolerance, where the `Score` had a secret."""
    units: tuple[int, ...] = ()
    """Units beyond the tolerance; with a fault of the provider, the one whose blob was at fault."""


NOT_PROTECTED: Final = "not protected: "
"""How the text of a `Guest` begins that says that a rehearsal did not come out equal, before the reason."""


@dataclass(frozen=True, slots=True)
class Guest:
    """What a running (or parked) task's hook said of itself; `state` is one of node.guest.hook.board.STATES."""

    task: str
    state: str
    text: str
    steps: int


@dataclass(frozen=True, slots=True)
class Recovering:
    """A run that goes on from a snapshot has come so far: its program waits at its first loop head (`ready`), the
    snapshot is here and opened (`attached`), the program holds its state (`restored`); or it was not fit to go on from
    (`began_again`)."""

    task: str
    phase: Literal["ready", "attached", "restored", "began_again"]


@dataclass(frozen=True, slots=True)
class FirstUnits:
    """Of a job with units: what a snapshot of it holds."""

    units: int
    """Units that were done."""
    root: Digest
    """Of the trace of these alone (`protocol.prefix`)."""
    begun: int
    """How many of them came with the snapshot that the run itself went on from."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A snapshot was cut and sealed: every data shard of its new packs is a blob here."""

    task: str
    number: int
    step: int
    progress_ppm: int
    tier: Tier
    size: int
    """Bytes of state."""
    stall_us: int
    """How long the job stood still for it."""
    index_bytes: int
    packs: tuple[Pack, ...]
    """All packs of the snapshot, those of earlier snapshots first."""
    is_rehearsed: bool = False
    """Whether a dry restore in a shadow process came out equal (once per task, told from then on)."""
    first: FirstUnits | None = None
    """Of a job with units."""


@dataclass(frozen=True, slots=True)
class CutFailed:
    """No snapshot came of it; the job goes on."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """All shards of a pack are here (`code` is empty), or why not."""

    shard: Digest
    """The pack's first shard."""
    code: str


@dataclass(frozen=True, slots=True)
class Proved:
    """The answer to a challenge."""

    peer: PeerId
    shard: Digest
    nonce: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Benched:
    """A step of a seeded benchmark is done: `code` is `ok`, or why not."""

    task: str
    step: Literal["ready", "multiply", "open", "check"]
    code: str
    root: Digest = ZERO_DIGEST
    """Of `multiply`."""
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    """(row, path) of each, of `open`."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What this machine's trusted hardware signed for a claim."""

    lease: tuple[bytes, int, int]
    evidence: Evidence | None
    why: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What a snapshot of units is worth to whoever would go on from it."""

    task: str
    lease: tuple[bytes, int, int]
    code: Literal["", "snapshot_missing", "snapshot_bad", "not_examined"]
    """Empty: it opens, and its units are those that were signed for. Else: its shards are not to be had, it is none,
    or this machine could not look."""
    detail: str = ""
    kept: tuple[Digest, ...] = ()
    """Shards that came for it and stay: none where it does not open."""


@dataclass(frozen=True, slots=True)
class Overheard:
    """A statement has come by gossip and was found right: as it was signed, and what it says."""

    statement: Signed
    body: Offer | JobNotice | Head


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A peer is connected that was not."""

    peer: PeerId


Completion = (
    Fetched
    | FetchFailed
    | RunStarted
    | RunLog
    | RunDone
    | Guest
    | Recovering
    | Sealed
    | CutFailed
    | Encoded
    | Proved
    | Scored
    | Benched
    | Attested
    | Examined
    | Overheard
    | Neighbour
)
