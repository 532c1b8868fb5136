"""What the ledger remembers: escrows, chunk leases, standings, lanes, and what is due when. Spec: specs/07-escrow.md.

Plain records; only `protocol.escrow`, `protocol.leases_ledger` and `protocol.automatic` change them.
"""

from __future__ import annotations

from heapq import heappush
from typing import Final, Literal

from msgspec import Struct, field

from protocol.accounts import AccountKey, Accounts
from protocol.errors import Refused
from protocol.validators import ValidatorSet

ChunkState = Literal["free", "assigned", "claimed", "paid"]

EXPIRE, RELEASE, CLOSE = 0, 1, 2
"""Ranks of what is due at the same time: leases end before the escrow that they are in closes."""

POSTED_KINDS: Final = frozenset({"fund", "pay", "commission", "slash", "refund"})
"""Kinds of statement lines that moved money; the others promise it or take a promise back."""


class Line(Struct, frozen=True, gc=False):
    """One line of an escrow's statement."""

    time: int
    """Ledger time, µs."""
    debit: AccountKey
    credit: AccountKey
    amount: int
    kind: str
    """fund | reserve | collateral | pay | commission | slash | release | return | refund (specs/07-escrow.md)."""
    note: str


class Carried(Struct):
    """What the provider of an earlier lease of a chunk gets once the chunk has its result (specs/07-escrow.md)."""

    epoch: int
    provider: bytes
    amount: int
    """Smallest units, commission included; a multiple of PRICE_STEP."""
    done_ppm: int
    """Share of the whole chunk that was done when it was handed over."""
    step: int
    snapshot: bytes
    handover: bytes
    """Id of the Handover; the promises are named after it."""
    outcome: Literal["", "paid", "void"] = ""
    """'' while the chunk has no end."""


class ChunkLease(Struct):
    """The newest lease of one chunk. Between leases (`free`) it shows how the last one ended."""

    chunk: int
    epoch: int = 0
    state: ChunkState = "free"
    provider: bytes = b""
    price: int = 0
    collateral: int = 0
    claim_by: int = 0
    verdict_by: int = 0
    watchers: tuple[bytes, ...] = ()
    assign: bytes = b""
    """Id of the Assign; the promises of the lease are named after it."""
    assigned_at: int = 0
    claimed_at: int = 0
    claimed_in: bytes = b""
    """Hash of the header of the claim's block: the beacon of its audit. Empty until that block is complete."""
    sealed: bytes = b""
    outcome: str = ""
    """'' while leased, then accept | settled | wrong | fraud | missing | handed | fenced | surrendered | expired |
    undecided."""
    output: bytes = b""
    is_audited: bool = False
    auditor: bytes = b""
    code: str = ""
    carried: list[Carried] = field(default_factory=list)
    """Of all its leases that were handed over, oldest first; they outlive the lease."""

    @property
    def done_ppm(self) -> int:
        """Share of the chunk that was done and handed over; 0 again once a wrong result has spoilt it."""
        return self.carried[-1].done_ppm if self.carried and self.carried[-1].outcome != "void" else 0


class Escrow(Struct):
    """Money set aside for one job, and everything that was done with it."""

    id: bytes
    job: bytes
    owner: bytes
    steward: bytes
    cap: int
    spec: bytes
    deadline: int
    is_closed: bool = False
    leased: int = 0
    """Chunks that are assigned or claimed."""
    paid: int = 0
    """To providers, after commission."""
    commission: int = 0
    slashed: int = 0
    """From providers' collateral, to the treasury."""
    refunded: int = 0
    chunks: dict[int, ChunkLease] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def account(self) -> AccountKey:
        """Its account."""
        return ("E", self.id)


class Standing(Struct):
    """What the ledger saw of one provider. Sums only: formulas over them live in `protocol.reputation`."""

    accepted: int = 0
    wrong: int = 0
    """Verdicts `wrong` and `fraud`."""
    missing: int = 0
    fenced: int = 0
    expired: int = 0
    """Leases that ended unclaimed at `claim_by`."""
    surrendered: int = 0
    handed: int = 0
    """Leases that were handed over with a snapshot."""
    settled: int = 0
    """Chunks paid by voucher, without a verdict."""
    consecutive_valid: int = 0
    """Accepted since the last wrong, fraud, missing or expired."""
    audited: int = 0
    """Accepted results that somebody executed again."""
    response_time_sum: int = 0
    """µs between Assign and Claim, over accepted results."""


class LedgerState:
    """The whole state between two operations."""

    def __init__(self, chain: str, validators: ValidatorSet, time: int) -> None:
        self.chain = chain
        self.validators = validators
        self.time = time
        self.accounts = Accounts()
        self.escrows: dict[bytes, Escrow] = {}
        self.standings: dict[bytes, Standing] = {}
        self.lanes: dict[tuple[bytes, int], int] = {}
        """(owner, lane) -> the next sequence."""
        self.references: set[bytes] = set()
        """Deposits that were minted."""
        self.due: list[tuple[int, int, int, bytes, int, int]] = []
        """Heap of (time, rank, number, key, chunk or amount, epoch): what happens by itself, in this order."""
        self.due_count = 0
        self.claimed: list[tuple[ChunkLease, int]] = []
        """Claims of the block in the making, with their epochs; they get its hash when it is complete."""
        self.touched: set[tuple[str, bytes, int]] = set()
        """Records other than accounts that changed since the last state root: (kind, key, chunk or lane)."""

    def open_escrow(self, escrow_id: bytes) -> Escrow:
        """The escrow, or `Refused` when there is none or it is closed."""
        escrow = self.escrows.get(escrow_id)
        if escrow is None:
            raise Refused(f"no escrow {escrow_id.hex()[:16]}", code="no_escrow", fix="Open it first, or check the id.")
        if escrow.is_closed:
            raise Refused(f"escrow {escrow_id.hex()[:16]} is closed", code="escrow_closed", fix="Open another escrow.")
        return escrow

    def standing(self, provider: bytes) -> Standing:
        """The counters of a provider, made when first needed, marked as changed."""
        self.touched.add(("standing", provider, 0))
        standing = self.standings.get(provider)
        if standing is None:
            standing = self.standings[provider] = Standing()
        return standing

    def schedule(self, at: int, rank: int, key: bytes, number: int = 0, epoch: int = 0) -> None:
        """Something happens by itself once the ledger clock has reached `at`."""
        self.due_count += 1
        heappush(self.due, (at, rank, self.due_count, key, number, epoch))
