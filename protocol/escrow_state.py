"""What the ledger remembers: escrows, chunk leases, standings, lanes, and what is due when. Spec: specs/07-escrow.md.

Plain records; only the modules that carry out operations, and `protocol.automatic`, change them.
"""

from __future__ import annotations

from collections import deque
from heapq import heappush
from operator import attrgetter
from typing import Final, Literal

from msgspec import UNSET, Struct, defstruct, field

from protocol.accounts import AccountKey, Accounts
from protocol.beacon import Beacon
from protocol.errors import Refused
from protocol.held import Held, held_id, name
from protocol.operations import Inherited
from protocol.policy import Policy
from protocol.validators import ValidatorSet

ChunkState = Literal["free", "assigned", "claimed", "paid"]

EXPIRE, RELEASE, CLOSE, HOLD, RULE, BEACON = range(6)
"""Ranks of what is due at the same time: leases end before the escrow that they are in closes."""

RETIRED_MAX: Final = 4_096
"""Final decisions of closed escrows that are kept, for who asks what became of a job: a kilobyte each. Receipts prove
the same of older jobs."""

POSTED_KINDS: Final = frozenset(
    {"fund", "pay", "commission", "slash", "refund", "evidence", "burn", "reward", "fee", "forfeit"}
)
"""Kinds of statement lines that moved money; the others promise it or take a promise back."""


class Line(Struct, frozen=True, gc=False):
    """One line of an escrow's statement."""

    time: int
    """Ledger time, µs."""
    debit: AccountKey
    credit: AccountKey
    amount: int
    kind: str
    """fund | reserve | collateral | pay | commission | slash | release | return | refund (specs/07-escrow.md),
    hold | evidence | bond | burn | reward | fee | forfeit (specs/32-economics.md)."""
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
    """Hash of the header of the claim's block. Empty until that block is complete."""
    sealed: bytes = b""
    outcome: str = ""
    """'' while leased, then accept | settled | wrong | fraud | severe | rejected | withheld | missing | handed |
    fenced | surrendered | expired | undecided | void."""
    output: bytes = b""
    is_audited: bool = False
    auditor: bytes = b""
    code: str = ""
    carried: list[Carried] = field(default_factory=list)
    """Of all its leases that were handed over, oldest first; they outlive the lease."""
    beacon: bytes = b""
    """What its audit is drawn from: `claimed_in`, or with a policy's beacon the first that covers it. Empty until
    then."""
    trace: bytes = b""
    """Root of the claim's trace."""
    units: int = 0
    """Units of the claim's trace."""
    evidence: int = 0
    """Promised to whoever audits the result; 0 once that is decided."""
    held_until: int = 0
    """Ledger time until which the newest decision may be appealed, µs; 0 when it is final or there is none."""
    inherited: dict[int, bytes] = field(default_factory=dict)
    """Epoch -> provider of the earlier leases whose word for the first units the claim carries."""
    prefixes: tuple[Inherited, ...] = ()
    """Their words, oldest first."""
    former: dict[int, bytes] = field(default_factory=dict)
    """Epoch -> provider of the leases that ended without a verdict; forgotten with the end of the escrow."""
    tainted: dict[int, bytes] = field(default_factory=dict)
    """The same of those that were found bad while this lease was at work: its own claim may still name them."""

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
    is_closing: bool = False
    """Nothing more is leased; it closes by itself when the last held item ends."""
    held: int = 0
    """Decisions that are not final."""
    evidence: int = 0
    """To auditors, on top of prices."""

    @property
    def account(self) -> AccountKey:
        """Its account."""
        return ("E", self.id)


class Bygone(Struct, frozen=True):
    """What is kept for good of an escrow that nothing can refer to any more (`protocol.closing`)."""

    job: bytes
    owner: bytes
    steward: bytes
    cap: int
    paid: int
    commission: int
    evidence: int
    slashed: int
    refunded: int
    closed: int
    """Ledger time, µs."""
    shares: tuple[tuple[int, Carried], ...]
    """(chunk, what a provider got that handed it over)."""


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
    fraud: int = 0
    """Verdicts `fraud`; with a policy, whoever has one gets no lease."""
    severe: int = 0
    rejected: int = 0
    """Results outside their tolerance."""
    withheld: int = 0
    """Claims whose data was not shown."""
    faulted: int = 0
    """Audits of its own that two others refuted."""
    probation: int = 0
    """Results that are audited without a draw, after a rejection."""


YOUNG_FIELDS: Final[dict[type, tuple[str, ...]]] = {
    ChunkLease: ("beacon", "trace", "units", "evidence", "held_until", "inherited"),
    Standing: ("fraud", "severe", "rejected", "withheld", "faulted", "probation"),
}
"""Fields that younger ledgers have: left out of a state root while they are empty, so that older roots hold."""

_ROOTED_BEFORE: Final = frozenset({"former", "prefixes", "tainted"})
"""Fields that say again what earlier records of the same chain of roots have said."""

_OLD_FIELDS: Final = {
    kind: tuple(key for key in kind.__struct_fields__ if key not in young and key not in _ROOTED_BEFORE)
    for kind, young in ((ChunkLease, YOUNG_FIELDS[ChunkLease]), (Standing, YOUNG_FIELDS[Standing]))
}
_OLD_VALUES: Final = {kind: attrgetter(*names) for kind, names in _OLD_FIELDS.items()}
_YOUNG_VALUES: Final = attrgetter(*YOUNG_FIELDS[ChunkLease])
_YOUNG_COUNTS: Final = attrgetter(*YOUNG_FIELDS[Standing])
_Rooted: Final = defstruct(
    "_Rooted",
    [
        *((name, object) for name in _OLD_FIELDS[ChunkLease]),
        *((name, object, UNSET) for name in YOUNG_FIELDS[ChunkLease]),
    ],
)
"""What a state root has of a lease: the same bytes as those fields in a dictionary, in half the time. Both have more
fields than fit into MessagePack's short head of a map; of a standing only the old ones do."""
_RootedStanding: Final = defstruct("_RootedStanding", [(name, object) for name in _OLD_FIELDS[Standing]])


def rooted(item: ChunkLease | Standing) -> object:
    """A record as it enters the state root. A beacon that is the claim's own block says nothing new."""
    if isinstance(item, ChunkLease):
        young = [value or UNSET for value in _YOUNG_VALUES(item)]
        if item.beacon == item.claimed_in:
            young[0] = UNSET
        return _Rooted(*_OLD_VALUES[ChunkLease](item), *young)
    old, counts = _OLD_VALUES[Standing](item), _YOUNG_COUNTS(item)
    if not any(counts):
        return _RootedStanding(*old)
    fields: dict[str, object] = dict(zip(_OLD_FIELDS[Standing], old, strict=True))
    return fields | {name: value for name, value in zip(YOUNG_FIELDS[Standing], counts, strict=True) if value}


class LedgerState:
    """The whole state between two operations."""

    def __init__(self, chain: str, validators: ValidatorSet, time: int, policy: Policy | None = None) -> None:
        self.chain = chain
        self.policy = policy
        self.validators = validators
        self.time = time
        self.accounts = Accounts()
        self.escrows: dict[bytes, Escrow] = {}
        """Every open one, and the newest that are closed."""
        self.closed: deque[tuple[int, bytes]] = deque()
        """(ledger time, id) of the closed ones among them, oldest first."""
        self.bygone: dict[bytes, Bygone] = {}
        """All others by id: it was used, and is never used again."""
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
        self.held: dict[bytes, Held] = {}
        """Every open decision by `held_id`, every final one of an escrow that is open, and the newest others; of no
        escrow that is bygone."""
        self.held_of: dict[bytes, list[Held]] = {}
        """The open ones of each provider, oldest first."""
        self.held_pay: dict[bytes, int] = {}
        """Sum of the prices of a provider's results that are accepted and not paid yet."""
        self.held_in: dict[bytes, dict[bytes, Held]] = {}
        """The open ones of each escrow, by `held_id`, oldest first."""
        self.retired: deque[bytes] = deque()
        """Names of the final ones of closed escrows, oldest first."""
        self.counts = 0
        """Serial of the newest entry of a held decision in somebody's standing."""
        self.flight: dict[bytes, int] = {}
        """Sum of the prices of a provider's running leases."""
        self.uncovered: list[tuple[bytes, int, int]] = []
        """Claims that wait for a beacon, oldest first."""
        self.beacons: dict[int, Beacon] = {}
        """By number, oldest first; the newest may be open."""
        self.opened: list[Beacon] = []
        """Beacons whose first part is in the block in the making; they get its hash when it is complete."""

    def open_escrow(self, escrow_id: bytes) -> Escrow:
        """The escrow, or `Refused` when there is none or it is closed."""
        escrow = self.escrows.get(escrow_id)
        if escrow_id in self.bygone or (escrow is not None and (escrow.is_closed or escrow.is_closing)):
            raise Refused(f"escrow {escrow_id.hex()[:16]} is closed", code="escrow_closed", fix="Open another escrow.")
        if escrow is None:
            raise Refused(f"no escrow {escrow_id.hex()[:16]}", code="no_escrow", fix="Open it first, or check the id.")
        return escrow

    def standing(self, provider: bytes) -> Standing:
        """The counters of a provider, made when first needed, marked as changed."""
        self.touched.add(("standing", provider, 0))
        standing = self.standings.get(provider)
        if standing is None:
            standing = self.standings[provider] = Standing()
        return standing

    def hold(self, held: Held) -> None:
        """Open an item."""
        self.held[name(held)] = held
        self.held_in.setdefault(held.escrow, {})[name(held)] = held
        self.held_of.setdefault(held.provider, []).append(held)
        self._owe(held, held.price)

    def end_held(self, held: Held) -> None:
        """Close an item: it is kept, and no longer looked at."""
        mine = self.held_of[held.provider]
        mine.remove(held)
        if not mine:
            del self.held_of[held.provider]
        self._owe(held, -held.price)
        there = self.held_in[held.escrow]
        del there[name(held)]
        if not there:
            del self.held_in[held.escrow]
        self.touched.add(("held", name(held), 0))

    def _owe(self, held: Held, amount: int) -> None:
        left = self.held_pay.get(held.provider, 0) + amount * held.is_pay
        if left:
            self.held_pay[held.provider] = left
        else:
            self.held_pay.pop(held.provider, None)

    def retire(self, escrow: Escrow) -> None:
        """A closed escrow's decisions are only looked at from now on; the oldest of all those are forgotten."""
        places = ((lease.chunk, epoch) for lease in escrow.chunks.values() for epoch in range(1, lease.epoch + 1))
        self.retired.extend(key for key in (held_id(escrow.id, *place) for place in places) if key in self.held)
        while len(self.retired) > RETIRED_MAX:
            del self.held[self.retired.popleft()]

    def forget(self, closed: int, key: bytes) -> None:
        """Keep no more of a closed escrow than its totals."""
        escrow = self.escrows.pop(key)
        shares = tuple((lease.chunk, item) for lease in escrow.chunks.values() for item in lease.carried)
        totals = (escrow.cap, escrow.paid, escrow.commission, escrow.evidence, escrow.slashed, escrow.refunded)
        self.bygone[key] = Bygone(escrow.job, escrow.owner, escrow.steward, *totals, closed, shares)
        self.accounts.forget(escrow.account)
        while self.retired and self.retired[0].startswith(key):  # Decisions retire in the order in which escrows close.
            del self.held[self.retired.popleft()]

    def open_held(self, escrow: bytes, chunk: int, epoch: int) -> Held:
        """The undecided item of this claim, or `Refused`."""
        held = self.held.get(held_id(escrow, chunk, epoch))
        if held is None or held.end:
            raise Refused(
                f"nothing is held of chunk {chunk} epoch {epoch}",
                code="not_held",
                fix="Appeals count only between a decision and the end of its window.",
            )
        return held

    def fly(self, provider: bytes, amount: int) -> None:
        """Add to, or take from, what a provider has in flight."""
        left = self.flight.get(provider, 0) + amount
        if left:
            self.flight[provider] = left
        else:
            self.flight.pop(provider, None)

    def schedule(self, at: int, rank: int, key: bytes, number: int = 0, epoch: int = 0) -> None:
        """Something happens by itself once the ledger clock has reached `at`."""
        self.due_count += 1
        heappush(self.due, (at, rank, self.due_count, key, number, epoch))
