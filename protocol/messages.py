"""Every message that peers exchange directly, and the statements that they gossip. Bounds on every field.

The sender of a direct message is authenticated by the connection (Noise, bound to the peer id); what must convince a
third party (offers, notices, bids, fences, operations, blocks) is signed besides. Spec: specs/03-wire.md lists all.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.audit_messages import AuditCommit as AuditCommit
from protocol.audit_messages import AuditOpenRequest as AuditOpenRequest
from protocol.audit_messages import AuditRequest as AuditRequest
from protocol.audit_messages import AuditReveal as AuditReveal
from protocol.audit_messages import ChunkIndex as ChunkIndex
from protocol.audit_messages import Epoch as Epoch
from protocol.audit_messages import InputsNotice as InputsNotice
from protocol.audit_messages import PrefixOpened as PrefixOpened
from protocol.audit_messages import PrefixRequest as PrefixRequest
from protocol.audit_messages import Reveal as Reveal
from protocol.audit_messages import RevealRequest as RevealRequest
from protocol.audit_messages import UnitsOpened as UnitsOpened
from protocol.audit_messages import UnitsRequest as UnitsRequest
from protocol.bench_messages import (
    BenchAnswer,
    BenchOpen,
    BenchReply,
    BenchRequest,
    BenchRow,
    BenchSeed,
    BenchVerdict,
)
from protocol.court_messages import (
    BisectOpened,
    BisectRequest,
    LeafOpened,
    LeafRequest,
    LevelOpened,
    LevelRequest,
    PointsOpened,
    PointsRequest,
)
from protocol.exchange import Listing, Summary, Told, Wanted
from protocol.greetings import Ack, Goodbye, Hello, Skip
from protocol.handover import HandoverAnswer, HandoverProposal
from protocol.jobspec import Bytes32, Name, NonNegative, Resources, Text
from protocol.operations import Hash, Key, Reason, Signature, SignedOp
from protocol.overlay.place import Place
from protocol.quote_messages import Quote, QuoteRequest
from protocol.snapshots import (
    Challenge,
    ChallengeAnswer,
    Keep,
    Kept,
    NotKept,
    Protection,
    Release,
    Renew,
    SnapshotNotice,
    Spread,
    SpreadDone,
    StandBy,
    StandbyChange,
    StandDown,
)

JobKey = Annotated[bytes, Meta(min_length=16, max_length=16)]
LogLine = Annotated[str, Meta(max_length=2_048)]
OPS_MAX: Final = 64


# ── statements: signed, gossiped ─────────────────────────────────────────────────────────────────────────────────────
class Gpu(Struct, frozen=True, forbid_unknown_fields=True):
    """One card as offered: the name is a label, the measured figures count."""

    vendor: Text
    name: Text
    memory_bytes: NonNegative
    gemm_gflops: NonNegative
    """Measured, 0 = not measured."""
    bandwidth_mbps: NonNegative


class Capability(Struct, frozen=True, forbid_unknown_fields=True):
    """A *measured* capability vector: what a seeded benchmark found on this host."""

    cpus_milli: NonNegative
    memory_bytes: NonNegative
    disk_bytes: NonNegative
    cpu_gflops: NonNegative
    """Measured single-thread figure × 1000 (thousandths of a GFLOP/s)."""
    hash_mbps: NonNegative
    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=64)] = ()
    uplink: Annotated[int, Meta(ge=1, le=2**62)] | UnsetType = UNSET
    """Bytes per second that it was seen to send, or that its owner allows; unset: not measured, and not encoded."""


class Runtime(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that jobs can ask for by name, and the digest that says exactly what it is (numeric class D2)."""

    name: Text
    digest: Bytes32


class Offer(Struct, frozen=True, forbid_unknown_fields=True, tag="offer"):
    """A provider's standing offer. A higher sequence replaces a lower one; it dies at `expires`. Kind `offer`."""

    sequence: NonNegative
    issued: NonNegative
    expires: NonNegative
    roles: Annotated[tuple[Literal["provider", "validator", "steward"], ...], Meta(max_length=3)]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=8)]
    capability: Capability
    executors: Annotated[tuple[Literal["docker", "runc", "bwrap", "wasm", "child"], ...], Meta(max_length=5)]
    runtimes: Annotated[tuple[Runtime, ...], Meta(max_length=32)]
    slots: Annotated[int, Meta(ge=0, le=256)]
    """Chunks that run at the same time."""
    slots_free: Annotated[int, Meta(ge=0, le=256)]
    price_per_hour: NonNegative
    serves: Annotated[tuple[Key, ...], Meta(max_length=64)]
    """Renters whose jobs may run without isolation (executor `child`); empty unless the owner listed his own."""
    is_draining: bool = False
    place: Place | UnsetType = UNSET
    """Region and coordinate. Unset is not encoded: offers of older nodes stay in their one encoding."""


class JobNotice(Struct, frozen=True, forbid_unknown_fields=True, tag="notice"):
    """A steward has chunks to give away. The specification is the blob `spec`, held by the steward. Kind `notice`."""

    sequence: NonNegative
    issued: NonNegative
    expires: NonNegative
    job: JobKey
    renter: Key
    spec: Bytes32
    spec_size: Annotated[int, Meta(ge=1, le=16 << 20)]
    escrow: Hash
    name: Name
    runtime: Text
    resources: Resources
    price_per_hour_max: NonNegative
    chunks_open: Annotated[int, Meta(ge=0, le=4097)]


class Head(Struct, frozen=True, forbid_unknown_fields=True, tag="head"):
    """The newest block's header and certificate. Self-certifying; kind `head` for gossip."""

    header: Header
    certificate: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=50)]


class Attestation(Struct, frozen=True, forbid_unknown_fields=True, tag="fence"):
    """A watcher's signed word that a lease's provider is dead; its body is a `Fence` operation signed as kind `op`."""

    operation: SignedOp


# ── market ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class Bid(Struct, frozen=True, forbid_unknown_fields=True, tag="bid"):
    """A provider wants chunks of a job, at most `slots` at a time, at this hourly price. Kind `bid` when signed."""

    job: JobKey
    slots: Annotated[int, Meta(ge=1, le=256)]
    price_per_hour: NonNegative
    executor: Text
    runtime: Bytes32
    expires: NonNegative


class NoBid(Struct, frozen=True, forbid_unknown_fields=True, tag="no_bid"):
    """Why a provider does not bid: machine-readable code and a sentence."""

    job: JobKey
    code: Reason
    detail: Reason


class Grant(Struct, frozen=True, forbid_unknown_fields=True, tag="grant"):
    """A lease offered: an `Assign` signed by the steward, for the provider to countersign."""

    job: JobKey
    assign: SignedOp
    outputs: Annotated[tuple[Bytes32, ...], Meta(max_length=4096)] = ()
    """Only for the reduce step: the outputs that it reads."""
    sources: Annotated[tuple[Key, ...], Meta(max_length=64)] = ()
    standby: Annotated[tuple[Key, ...], Meta(max_length=1)] = ()
    secret: Annotated[bytes, Meta(max_length=128)] = b""
    """Of which the keys of the chunk's snapshots are made, sealed for the provider; empty: no snapshots are wanted."""
    resume: Annotated[tuple[SnapshotNotice, ...], Meta(max_length=1)] = ()
    """Where to go on; none = from the beginning."""


class Accept(Struct, frozen=True, forbid_unknown_fields=True, tag="accept"):
    """The provider countersigns the grant with this operation id."""

    op: Hash
    signature: Signature


class Decline(Struct, frozen=True, forbid_unknown_fields=True, tag="decline"):
    """The provider does not take the grant."""

    op: Hash
    code: Reason


class CancelChunk(Struct, frozen=True, forbid_unknown_fields=True, tag="cancel"):
    """The steward wants this lease to end; the provider stops and surrenders it."""

    job: JobKey
    chunk: ChunkIndex
    epoch: Epoch
    reason: Reason


# ── liveness ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Watch(Struct, frozen=True, forbid_unknown_fields=True, tag="watch"):
    """The steward asks a watcher named in the lease to listen for the provider's beats."""

    assign: SignedOp


class Unwatch(Struct, frozen=True, forbid_unknown_fields=True, tag="unwatch"):
    """The lease ended; stop listening."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch


class Beat(Struct, frozen=True, forbid_unknown_fields=True, tag="beat"):
    """Once a second from a provider to the watchers of each lease it holds."""

    escrow: Hash
    chunk: ChunkIndex
    epoch: Epoch
    sequence: NonNegative
    phase: Literal["fetching", "starting", "running", "claiming", "revealing"]
    health: Annotated[int, Meta(ge=1, le=8)] = 1
    step: NonNegative = 0
    """Steps of the job done so far, as its hook counts them; 0 where none is loaded."""
    snapshot: NonNegative = 0
    """The step of the newest durable snapshot."""
    """Local-health multiplier (Lifeguard): 1 = fine, up to 8 = my own loop is late."""


class LogLines(Struct, frozen=True, forbid_unknown_fields=True, tag="log"):
    """Output of a running chunk for the renter; sequence = number of the first line within the lease."""

    job: JobKey
    chunk: ChunkIndex
    epoch: Epoch
    sequence: NonNegative
    lines: Annotated[tuple[LogLine, ...], Meta(max_length=64)]


# ── ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────
class Submit(Struct, frozen=True, forbid_unknown_fields=True, tag="submit"):
    """Operations for the ledger, applied in this order."""

    operations: Annotated[tuple[SignedOp, ...], Meta(min_length=1, max_length=OPS_MAX)]


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """One block. `time` is the ledger clock, which stops when the ledger stops (A4.9)."""

    chain: Annotated[str, Meta(max_length=64)]
    height: NonNegative
    time: NonNegative
    previous: Hash
    ops_root: Hash
    receipts_root: Hash
    state_root: Hash
    validators: Hash
    """SHA-256 of the encoded validator set that may certify this block."""
    count: Annotated[int, Meta(ge=0, le=100_000)]


class Outcome(Struct, frozen=True, forbid_unknown_fields=True):
    """What became of one operation: a leaf under `receipts_root`."""

    op: Hash
    status: Literal["applied", "refused"]
    code: Reason
    """`ok`, or the stable code of the rule that refused it."""
    detail: Reason


class Receipt(Struct, frozen=True, forbid_unknown_fields=True):
    """One outcome and its Merkle path to the header's `receipts_root`."""

    outcome: Outcome
    index: Annotated[int, Meta(ge=0, le=100_000)]
    path: Annotated[tuple[Hash, ...], Meta(max_length=17)]


class Receipts(Struct, frozen=True, forbid_unknown_fields=True, tag="receipts"):
    """To everyone whom an ordered operation concerns: certified header, operations, outcomes, proofs."""

    header: Header
    certificate: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=50)]
    operations: Annotated[tuple[SignedOp, ...], Meta(max_length=OPS_MAX)]
    receipts: Annotated[tuple[Receipt, ...], Meta(max_length=OPS_MAX)]
    """`receipts[i]` is for `operations[i]`."""


class Proposal(Struct, frozen=True, forbid_unknown_fields=True, tag="proposal"):
    """The leader's next block, for the other validators to execute and vote on."""

    header: Header
    operations: Annotated[tuple[SignedOp, ...], Meta(max_length=OPS_MAX)]


class Vote(Struct, frozen=True, forbid_unknown_fields=True, tag="vote"):
    """A validator executed the block and found the same roots. The signature is over the header, kind `header`."""

    height: NonNegative
    header: Hash
    signature: Signature


class BlocksRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="blocks_request"):
    """A follower asks for blocks from this height on."""

    height: NonNegative


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """A certified block with its operations: what is stored, replayed and followed."""

    header: Header
    certificate: Annotated[tuple[Signature, ...], Meta(min_length=1, max_length=50)]
    operations: Annotated[tuple[SignedOp, ...], Meta(max_length=100_000)]


class Blocks(Struct, frozen=True, forbid_unknown_fields=True, tag="blocks"):
    """Consecutive blocks, as many as fit one message; empty = you are up to date."""

    blocks: Annotated[tuple[Block, ...], Meta(max_length=1_000)]
    tip: NonNegative


Message = (
    Bid | NoBid | Grant | Accept | Decline | CancelChunk | Watch | Unwatch | Beat | LogLines | Reveal | RevealRequest
    | UnitsRequest | UnitsOpened | PrefixRequest | PrefixOpened | QuoteRequest | Quote
    | AuditRequest | AuditCommit | AuditOpenRequest | AuditReveal | InputsNotice | Submit | Receipts | Proposal | Vote
    | BlocksRequest | Blocks | Attestation | Hello | Ack | Skip | Goodbye | Offer | JobNotice | Head
    | Summary | Listing | Wanted | Told
    | Keep | Kept | NotKept | Renew | Release | Spread | SpreadDone | Challenge | ChallengeAnswer
    | SnapshotNotice | Protection | StandBy | StandDown | StandbyChange | HandoverProposal | HandoverAnswer
    | BisectRequest | BisectOpened | PointsRequest | PointsOpened | LevelRequest | LevelOpened
    | LeafRequest | LeafOpened
    | BenchRequest | BenchReply | BenchSeed | BenchAnswer | BenchOpen | BenchRow | BenchVerdict
)  # fmt: skip

STATEMENT_KINDS: Final = {Offer: "offer", JobNotice: "notice", Head: "head"}
"""What is gossiped, and the kind under which it is signed. The transport opens statements, machines get the body."""

message_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
