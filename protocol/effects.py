"""What a machine may ask the world to do. A closed union: a driver performs these, and nothing else acts.

Effects are performed in the order given; a `Store` is durable before the effects behind it happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from protocol.bench_messages import BenchRequest
from protocol.completions import Completion
from protocol.errors import ShoalError
from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.messages import Head, JobNotice, Message, Offer
from protocol.proof import HardwareKind, Kind, Leaf, Tolerance
from protocol.snapshots import Challenge, Manifest, Pack
from protocol.units import Digest, Micros, PeerId
from protocol.wire import Signed

LeaseKey = tuple[bytes, int, int]
"""(escrow, chunk, epoch)."""


@dataclass(frozen=True, slots=True)
class Send:
    """One message to one peer: ordered per peer, lost only with the connection. To oneself: delivered locally."""

    peer: PeerId
    message: Message


@dataclass(frozen=True, slots=True)
class Publish:
    """A signed statement to everyone who follows the topic (`offers`, `jobs`, `heads`)."""

    topic: str
    statement: Signed


@dataclass(frozen=True, slots=True)
class Hear:
    """A statement that came from a neighbour instead of by gossip, checked: to all machines, as its signer's words."""

    statement: Signed
    body: Offer | JobNotice | Head


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `tick` at or soon after this time."""

    at: Micros
    machine: Machine | None = None
    """Whose tick; None: of the machine that returned it. A machine that is called by another names itself."""


@dataclass(frozen=True, slots=True)
class Store:
    """Make a record durable under a key; None deletes it."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring a blob here from one of these peers; answered by `Fetched` or `FetchFailed` with the same digest."""

    digest: Digest
    size_max: int
    sources: tuple[PeerId, ...]
    is_output: bool = False
    """True: the digest names an output manifest, and every file in it is fetched too; `size_max` bounds the sum."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a chunk goes on instead of at its beginning."""

    manifest: Manifest
    holders: tuple[tuple[tuple[int, PeerId], ...], ...]
    """Per pack: (shard index, who gave a receipt for it)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Execute one chunk in a sandbox; answered by `RunLog`s and one `RunDone` with the same task.

    The driver fetches every input (files of the spec, outputs of earlier chunks) from `sources` first."""

    task: str
    spec: JobSpec
    chunk: int
    outputs: tuple[Digest, ...]
    """For the reduce step: the output manifests of chunks 0..n-1, in order. Empty otherwise."""
    sources: tuple[PeerId, ...]
    renter: PeerId
    lease: LeaseKey | None = None
    """(escrow, chunk, epoch) of a run that is protected by snapshots; None: it is not (audits)."""
    secret: bytes = b""
    """32 bytes, of which the keys of the chunk's snapshots are made; empty without protection."""
    resume: Resume | None = None
    units: tuple[Leaf, ...] = ()
    """Replay these units from their states, fetched from `sources`; the output is a `Results` blob."""
    seed: bytes = b""
    """The challenge of a replay."""
    result: Digest = ZERO_DIGEST
    """Not zeros: run the job's `check` over this output, and nothing else."""
    last: Leaf | None = None
    """Not None: fetch this last state from `sources` and make the output files of it, and nothing else."""


@dataclass(frozen=True, slots=True)
class ScoreItem:
    """One unit as claimed and as replayed; digests of blobs, zeros where there is none."""

    index: int
    start: Digest
    claimed: Digest
    replayed: Digest
    claimed_aux: Digest
    replayed_aux: Digest


@dataclass(frozen=True, slots=True)
class Score:
    """Compare replayed units with claimed ones in a child process; answered by `Scored` with the same task."""

    task: str
    kind: Kind
    tolerance: Tolerance
    items: tuple[ScoreItem, ...]
    provider: PeerId
    """Who has what was claimed."""
    auditor: PeerId
    """Who has what was replayed."""
    secret: bytes = b""
    """The judge's own: units within the tolerance are to come back with the direction of their error. Empty: not."""


@dataclass(frozen=True, slots=True)
class Park:
    """Bring a chunk as far as its first loop and let it wait there; a later `Run` of the same chunk takes it over."""

    run: Run


@dataclass(frozen=True, slots=True)
class Unpark:
    """Give up what was parked under this task name."""

    task: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Take a snapshot of a running task now; answered by `Sealed` or `CutFailed` with the same task, or by its
    `RunDone`: what ends meanwhile needs no snapshot, and must not be given back for want of one."""

    task: str
    hold: bool
    """Stand still after it: what follows happens elsewhere."""
    k: int = 8
    n: int = 14
    """How its new packs are coded: k of n shards give one back; k = 1 means n copies."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Make the missing shards of a pack of which any k are blobs here, check all n digests; answered by `Encoded`."""

    pack: Pack


@dataclass(frozen=True, slots=True)
class Prove:
    """Answer a challenge about a blob for `peer` (oneself: what the right answer would be); answered by `Proved`."""

    peer: PeerId
    challenge: Challenge


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete a blob that nobody needs any more. No answer."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One step of a seeded benchmark; each but `end` is answered by a `Benched` with the same task and step.

    `ready`: a child that waits for a seed. `multiply`: its products of this seed. `open`: the rows that the beacon
    chooses. `end`: the child ends. `check`: whether another's rows are those of its products."""

    task: str
    step: Literal["ready", "multiply", "open", "end", "check"]
    order: BenchRequest
    seed: bytes = b""
    root: bytes = b""
    beacon: bytes = b""
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    """(row, path) of each chosen row, in order."""


@dataclass(frozen=True, slots=True)
class Attest:
    """Have this machine's trusted hardware sign that it is what it is; answered by `Attested` with the same lease."""

    lease: LeaseKey
    bound: bytes
    """What is signed along: 32 bytes (`protocol.quote_messages.binding`)."""
    kinds: tuple[HardwareKind, ...]
    """Whose quotes count."""


@dataclass(frozen=True, slots=True)
class Examine:
    """Open a snapshot of units as whoever goes on from it would; answered by `Examined` with the same task. The shards
    that came for it stay if it opens, until `LetGo`."""

    task: str
    lease: LeaseKey
    resume: Resume
    secret: bytes
    spec: JobSpec
    patience: Micros
    """How long its shards may take to come."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """Delete shards that came for an `Examine`, but for those that custody needs by now. No answer."""

    shards: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """End a running task; its `RunDone` follows with reason `stopped`. A snapshot that is examined is let go of, and
    nothing follows."""

    task: str


@dataclass(frozen=True, slots=True)
class Compute:
    """Work that takes long and happens outside the machine."""

    work: (
        Fetch
        | Run
        | Stop
        | Park
        | Unpark
        | Cut
        | Encode
        | Prove
        | Forget
        | Score
        | Benchmark
        | Attest
        | Examine
        | LetGo
    )


@dataclass(frozen=True, slots=True)
class Emit:
    """Something that people may want to see: a name and plain values (bytes as hex) for logs, pages and tests."""

    name: str
    fields: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Fail:
    """An error that is nobody's reply: logged, counted, and the peer scored where it is the peer's fault."""

    error: ShoalError


Effect = Send | Publish | Hear | Wake | Store | Compute | Emit | Fail


class Machine(Protocol):
    """One sans-IO machine. A refused message raises and changes nothing."""

    @property
    def accepts(self) -> tuple[type, ...]:
        """The message, statement-body and completion types that this machine takes."""
        ...

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]: ...

    def tick(self, now: Micros) -> list[Effect]: ...
