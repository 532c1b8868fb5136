"""Bodies of the HTTP API. Requests refuse unknown fields; answers are decoded from the node into these structs first,
so that only what is listed here leaves the gateway (OWASP API3), whatever a node sends.

Instants and spans are integer microseconds, money is an integer in the smallest unit (1 credit = 1_000_000).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from gateway.chunk_schemas import ChunkStatus as ChunkStatus
from gateway.proof_schemas import Trust as Trust

Json = object
Amount = Annotated[int, Meta(ge=1, le=2**62)]


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class JobRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A job to submit or to plan. `spec` is the plain form of a job specification (specs/05-job.md)."""

    spec: Annotated[dict[str, Json], Meta(extra_json_schema={"$ref": "#/components/schemas/JobSpec"})]


class ExtendRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """New absolute limits for a job; at least one. The spend cap of a funded job only rises, its timeout is fixed."""

    spend_cap: Amount | None = None
    timeout: Annotated[int, Meta(ge=100_000, le=86_400_000_000)] | None = None
    """Wall time of one chunk in microseconds."""


class DepositRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Credits for this account, from the gateway's own node."""

    amount: Amount


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """The form of the page."""

    token: Annotated[str, Meta(min_length=1, max_length=256)]
    next: Annotated[str, Meta(max_length=256)] = "/"


# ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class ListQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A page of a list."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:~-]{0,256}$")] = ""
    """`next_cursor` of the page before."""


class LogQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How to read a log."""

    follow: bool = True
    """true: server-sent events until the job ends; false: the lines so far as plain text."""
    since: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    """Only lines after this sequence number; the header Last-Event-ID does the same."""


class OfferQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which offers to show."""

    executor: Annotated[str, Meta(max_length=16)] = ""
    runtime: Annotated[str, Meta(max_length=256)] = ""
    gpu: Annotated[str, Meta(max_length=64)] = ""
    """Part of a GPU's name."""
    price_per_hour_max: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    slots_free_min: Annotated[int, Meta(ge=0, le=256)] = 0


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Candidate(Struct):
    """A peer that could run the job."""

    peer: str
    price_per_hour: int = 0
    chunk_price: int = 0
    executor: str = ""
    slots: int = 0
    reputation: float | None = None
    region: str = ""
    """As its owner says."""
    latency_ms: int | None = None
    """Estimated round trip from the node that carries the job; null: unknown, and so behind its equals."""
    uplink: int = 0
    """Bytes per second that it was seen to send; 0: not measured."""
    worst_case_loss_s: float | None = None
    """Seconds of work that are lost at worst if it dies."""
    is_exposed: bool = False
    """Whether that is more than five minutes; such a peer is asked after all others."""
    loss: str = ""
    """The same in words."""


class Exclusion(Struct):
    """A peer that could not, and why."""

    peer: str
    code: str = ""
    detail: str = ""


class Plan(Struct):
    """What would happen if the job were submitted now."""

    candidates: list[Candidate] = []
    excluded: list[Exclusion] = []
    price_min: int | None = None
    price_max: int | None = None
    worst_case_loss_s: float | None = None
    """Seconds of work that the loss of a peer can cost, at the worst of the candidates."""
    state_bytes: int = 0
    """Bytes of a snapshot that this was computed for; 0: no snapshots are taken."""
    is_state_guessed: bool = False
    """Whether the job does not say how large its state is, so that it was guessed from the memory that it asks for."""
    start_estimate_s: float | None = None
    size: str | None = None
    """How large the network takes the job to be."""
    trust: Trust | None = None
    """What is done about claims, what that catches and costs; at the dearest candidate's price."""


class HostLoss(Struct):
    """What may be lost at a peer that could run the job."""

    peer: str
    chunk_price: int = 0
    uplink: int = 0
    worst_case_loss_s: float | None = None
    is_exposed: bool = False
    loss: str = ""


class Quote(Struct):
    """What the job costs at most, and until when that holds."""

    total_max: int = 0
    chunk_price_max: int = 0
    expires: int = 0
    hosts: list[HostLoss] = []
    """Who could run it, in the order in which they would be asked; only while the job is quoted."""


class Submitted(Struct):
    """A quoted job: nothing is paid before it is confirmed."""

    job: str
    state: str
    quote: Quote | None = None
    plan: Plan | None = None


class MoneyLine(Struct, rename={"source": "from", "target": "to"}):
    """One movement of the ledger that concerns the job. On the wire the two ends are called `from` and `to`."""

    time: int = 0
    source: str | None = None
    target: str | None = None
    amount: int = 0
    kind: str = ""
    note: str | None = None


class Money(Struct):
    """The money of a job: totals, then line by line."""

    cap: int = 0
    paid: int = 0
    commission: int = 0
    evidence: int = 0
    """To auditors, on top of prices."""
    refunded: int = 0
    slashed: int = 0
    pending: int = 0
    """Of the cap, what has not moved: promised, held, or free."""
    held: int = 0
    """Of `pending`, what waits until nobody can appeal."""
    held_until: int = 0
    """When the last of it can be final, µs of the network's clock; 0: nothing is held."""
    free: int = 0
    """Of `pending`, what nothing is promised of: it is leased, or goes back."""
    lines: list[MoneyLine] = []


class JobSummary(Struct):
    """A job in a list."""

    job: str
    name: str = ""
    state: str = ""
    reason: str | None = None
    created: int | None = None
    confirmed: int | None = None
    finished: int | None = None
    escrow: str | None = None
    steps: int = 0
    accepted: int = 0


class JobStatus(JobSummary):
    """Everything that the renter may know about a job."""

    renter: str = ""
    quote: Quote | None = None
    chunks: list[ChunkStatus] = []
    money: Money | None = None
    trust: Trust | None = None
    result: Json = None


class JobList(Struct):
    """A page of jobs, newest first."""

    jobs: list[JobSummary] = []
    next_cursor: str | None = None


class ProviderUse(Struct):
    """What one peer holds of a job."""

    peer: str
    executors: list[str]
    chunks_active: int
    chunks_accepted: int
    gpus: list[str]


class JobResources(Struct):
    """Where a job runs now."""

    job: str
    state: str
    steps: int
    accepted: int
    chunks_by_state: dict[str, int]
    providers: list[ProviderUse]
    busy_us: int
    """Lease time used so far, all attempts, in microseconds."""


class ResultFile(Struct):
    """One file of the result; its content is at …/result/{path}."""

    path: str
    digest: str
    size: int
    chunk: int | None = None


class ResultList(Struct):
    """The files of a job's result."""

    files: list[ResultFile] = []


class BlobStored(Struct):
    """An uploaded file: `digest` goes into the specification's `files`."""

    digest: str
    size: int


# ── market and account ───────────────────────────────────────────────────────────────────────────────────────────────
class Gpu(Struct):
    """One card as offered."""

    vendor: str = ""
    name: str = ""
    memory_bytes: int = 0


class Runtime(Struct):
    """Something that jobs can ask for by name."""

    name: str
    digest: str = ""


class Peer(Struct):
    """A peer as this gateway's node sees it. `liveness` is alive, unknown or dead: unknown is not dead."""

    peer: str
    roles: list[str] = []
    connected: bool = False
    liveness: str = "unknown"
    slots: int = 0
    slots_free: int = 0
    price_per_hour: int | None = None
    executors: list[str] = []
    runtimes: list[Runtime] = []
    gpus: list[Gpu] = []
    reputation: float | None = None
    stake: int | None = None
    is_draining: bool = False
    seen: int | None = None


class OfferList(Struct):
    """Providers that this node has heard of lately, cheapest first."""

    offers: list[Peer]


class Account(Struct):
    """The caller's account."""

    account: str
    name: str
    renter: str
    token_prefix: str
    scopes: list[str]
    available: int
    escrowed: int


class Deposited(Struct):
    """What the account has after the deposit."""

    available: int


class StatementLine(Struct):
    """One movement of the account."""

    time: int = 0
    kind: str = ""
    amount: int = 0
    note: str = ""


class Statement(Struct):
    """The account's money, line by line."""

    available: int = 0
    escrowed: int = 0
    lines: list[StatementLine] = []


# ── the gateway itself ───────────────────────────────────────────────────────────────────────────────────────────────
class Health(Struct):
    """The process runs."""

    status: str


class Reason(Struct):
    """Why the gateway is not ready."""

    code: str
    detail: str
    fix: str


class Readiness(Struct):
    """Whether requests will be answered; `reasons` when not."""

    ready: bool
    reasons: list[Reason]


class Version(Struct):
    """What runs here."""

    software: str
    api: str
    network: str
    node: str | None
