"""What a steward remembers of a job: everything needed to go on after a restart. Spec: specs/14-steward.md."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from protocol.identity import peer_text
from protocol.jobspec import JobSpec
from protocol.units import PeerId

JobState = Literal["quoted", "funding", "queued", "running", "settling", "settled", "failed", "cancelled", "expired"]
ChunkState = Literal["waiting", "granted", "leased", "running", "claimed", "revealed", "accepted", "failed"]

FINAL_STATES: frozenset[JobState] = frozenset(("settled", "failed", "cancelled", "expired"))


class Attempt(Struct):
    """One lease of a chunk: who, when, and how it ended ('' = it has not)."""

    epoch: int
    provider: bytes
    started: int
    ended: int = 0
    end: str = ""
    step: int = 0
    """The step of the snapshot that it began from."""
    reached: int = 0
    """The last step that its beats told of; 0 where no hook counts."""
    heard: int = 0
    """When its last beat came."""
    went_on: int = 0
    """When the first beat came that its program stands at the step of the snapshot again, or is further; 0: never, or
    it began from none."""

    def beat(self, step: int, now: int) -> None:
        """Its provider lives, and is so far."""
        self.heard, self.reached = now, max(self.reached, step)
        if 0 < self.step <= step and not self.went_on:
            self.went_on = now


class ChunkRecord(Struct):
    """One step of a job."""

    index: int
    state: ChunkState = "waiting"
    epoch: int = 0
    """The newest epoch that the ledger has seen for the chunk."""
    provider: bytes = b""
    executor: str = ""
    price: int = 0
    outcome: str = ""
    code: str = ""
    is_audited: bool = False
    auditor: bytes = b""
    output: bytes = b""
    output_bytes: int = 0
    is_fetched: bool = False
    """True once every byte of the accepted output lies here."""
    attempts: list[Attempt] = field(default_factory=list)
    snapshot: bytes = b""
    """The newest durable snapshot: the worker's `SnapshotNotice`, encoded; empty: none yet."""
    snapshot_epoch: int = 0
    snapshot_number: int = 0
    step: int = 0
    """How far that snapshot is."""
    progress_ppm: int = 0
    snapshot_bytes: int = 0
    """Bytes of state in it."""
    is_protected: bool = False
    """True once a snapshot of the chunk was restored in a rehearsal and came out equal."""
    exposed: str = ""
    """Why the chunk is not protected, or not as it should be, as its provider says."""
    kept: str = ""
    """Where the newest durable snapshot is, as its provider says."""
    opened: list[bytes] = field(default_factory=list)
    """Shards that came here when a snapshot to be handed over was opened, and stay as long as they may be needed."""
    fruitless: int = 0
    """Attempts in a row that ended without having moved the chunk on."""
    score: int = -1
    """Of the newest verdict's comparison, ppm; -1: bits were compared, or nothing."""
    evidence: bytes = b""
    """Digest that the newest verdict names as its evidence."""

    @property
    def is_done(self) -> bool:
        return self.state == "accepted" and self.is_fetched

    @property
    def is_leased(self) -> bool:
        return self.state in ("leased", "running", "claimed", "revealed")


class JobRecord(Struct):
    """One job of one renter."""

    job: bytes
    renter: bytes
    key: str
    spec: JobSpec
    spec_digest: bytes
    spec_size: int
    created: int
    quote_expires: int
    cap: int
    """What the escrow holds: the most that the job can cost."""
    chunk_price_max: int
    chunks: list[ChunkRecord]
    state: JobState = "quoted"
    goal: JobState = "settled"
    """Where the job ends once its escrow is closed."""
    reason: str = ""
    confirmed: int = 0
    finished: int = 0
    deadline: int = 0
    escrow: bytes = b""
    open_op: bytes = b""
    """The signed `EscrowOpen`, encoded: sent again after a restart until the ledger has it."""
    extend_op: bytes = b""
    """The signed `EscrowExtend` that the ledger has not decided yet, encoded: sent again after a restart."""
    extend_cap: int = 0
    """The cap once it is applied."""
    log_lines: int = 0
    """Lines received so far; the sequence number of the next."""
    barred: list[bytes] = field(default_factory=list)
    """Providers that gave a wrong result in this job: they get no more of it."""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def is_open(self) -> bool:
        """True while chunks may be given away."""
        return self.state in ("queued", "running")

    @property
    def is_reducing(self) -> bool:
        """True when all chunks before the reduce step are done."""
        return all(chunk.is_done for chunk in self.chunks[: len(self.spec.chunks)])

    def open_chunks(self) -> list[ChunkRecord]:
        """What may be granted now: the reduce step waits for all others."""
        count = len(self.spec.chunks)
        return [
            chunk for chunk in self.chunks if chunk.state == "waiting" and (chunk.index < count or self.is_reducing)
        ]

    def fields(self, chunk: ChunkRecord) -> dict[str, str | int]:
        """A chunk as events show it."""
        provider = peer_text(PeerId(chunk.provider)) if chunk.provider else ""
        return {
            "job": self.job.hex(),
            "chunk": chunk.index,
            "state": chunk.state,
            "epoch": chunk.epoch,
            "provider": provider,
        }
