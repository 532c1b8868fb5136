"""A small world for tests of the ledger: a renter, a steward, three providers, one validator, and their operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from msgspec.structs import replace

from protocol.escrow_state import ChunkLease, Escrow
from protocol.genesis import Genesis
from protocol.held import Held, held_id
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.messages import Outcome
from protocol.operations import (
    Appeal,
    Assign,
    Claim,
    EscrowExtend,
    EscrowOpen,
    Fence,
    Handover,
    Operation,
    Ruling,
    Settle,
    Surrender,
    Verdict,
    seal,
    signed_op,
)
from protocol.policy import Policy
from protocol.units import CREDIT, SECOND, Digest, Micros

CHAIN: Final = "test"
START: Final = Micros(1_700_000_000_000_000)
RENTER, STEWARD, STANDBY, OTHER, VALIDATOR = (Identity(bytes([n]) * 32) for n in range(1, 6))
PROVIDERS: Final = tuple(Identity(bytes([n]) * 32) for n in range(10, 13))
WATCHERS: Final = (STEWARD.peer, STANDBY.peer, OTHER.peer)
FUNDS: Final = 1_000 * CREDIT
STAKE: Final = 100 * CREDIT
PRICE: Final = 3 * CREDIT + 7
CLAIM_BY: Final = Micros(START + 60 * SECOND)
VERDICT_BY: Final = Micros(START + 120 * SECOND)
DEADLINE: Final = Micros(START + 600 * SECOND)

GENESIS: Final = Genesis(
    CHAIN,
    START,
    ((VALIDATOR.peer, 1),),
    (("U", RENTER.peer, FUNDS), *(("S", item.peer, STAKE) for item in PROVIDERS)),
)

WINDOW: Final = 100 * SECOND
RULE_TIME: Final = 300 * SECOND
POLICY: Final = Policy(dispute_window=WINDOW, rule_time=RULE_TIME)
TRACE: Final = b"t" * 32

OutcomeName = Literal["accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing"]


def open_escrow(
    cap: int = 100 * CREDIT, sequence: int = 0, deadline: int = DEADLINE, job: bytes = bytes(16)
) -> EscrowOpen:
    return EscrowOpen(RENTER.peer, 0, sequence, job, cap, bytes(32), STEWARD.peer, deadline)


def extend(
    escrow: bytes, amount: int = CREDIT, sequence: int = 1, deadline: int = DEADLINE, owner: Identity = RENTER
) -> EscrowExtend:
    return EscrowExtend(owner.peer, 0, sequence, escrow, amount, deadline)


def assign(
    escrow: bytes, chunk: int = 0, epoch: int = 1, provider: Identity = PROVIDERS[0], **changes: object
) -> Assign:
    fields: dict[str, object] = {
        "escrow": escrow, "chunk": chunk, "epoch": epoch, "provider": provider.peer,
        "price": PRICE, "collateral": PRICE,
        "claim_by": CLAIM_BY, "verdict_by": VERDICT_BY, "watchers": WATCHERS,
    }  # fmt: skip
    return Assign(**(fields | changes))  # type: ignore[arg-type]


def claim(
    escrow: bytes, chunk: int = 0, epoch: int = 1, provider: Identity = PROVIDERS[0], is_traced: bool = False
) -> Claim:
    sealed = seal(provider.peer, bytes(32), Digest(bytes(32)))
    return Claim(escrow, chunk, epoch, sealed, TRACE, 4) if is_traced else Claim(escrow, chunk, epoch, sealed)


def verdict(
    escrow: bytes,
    outcome: OutcomeName = "accept",
    chunk: int = 0,
    epoch: int = 1,
    is_audited: bool = False,
    auditor: Identity = VALIDATOR,
    faulted: tuple[Identity, ...] = (),
) -> Verdict:
    fields = (escrow, chunk, epoch, outcome, is_audited, auditor.peer, b"o" * 32, b"e" * 32, "hash_equal")
    return Verdict(*fields, faulted=tuple(item.peer for item in faulted)) if faulted else Verdict(*fields)


def appeal(
    escrow: bytes,
    appellant: Identity,
    bond: int = 40 * CREDIT,
    chunk: int = 0,
    epoch: int = 1,
    rival: bytes = bytes(32),
    number: int = 1,
) -> Appeal:
    return Appeal(escrow, chunk, epoch, appellant.peer, bond, rival, number)


def ruling(
    escrow: bytes, finding: OutcomeName, is_upheld: bool = False, number: int = 1, chunk: int = 0, epoch: int = 1
) -> Ruling:
    word: Literal["upheld", "overturned"] = "upheld" if is_upheld else "overturned"
    return Ruling(escrow, chunk, epoch, number, word, finding, (VALIDATOR.peer,), b"e" * 32, "panel")


def again(escrow: bytes, chunk: int = 0, epoch: int = 2, provider: Identity = PROVIDERS[0]) -> Assign:
    """A cheap lease with all the time that the escrow has."""
    late = {"claim_by": DEADLINE - 2, "verdict_by": DEADLINE}
    return assign(escrow, chunk, epoch, provider, price=1_000, collateral=0, **late)


def fence(escrow: bytes, chunk: int = 0, epoch: int = 1) -> Fence:
    return Fence(escrow, chunk, epoch)


def surrender(escrow: bytes, chunk: int = 0, epoch: int = 1) -> Surrender:
    return Surrender(escrow, chunk, epoch, "draining")


def handover(escrow: bytes, done_ppm: int = 500_000, chunk: int = 0, epoch: int = 1) -> Handover:
    return Handover(escrow, chunk, epoch, done_ppm, 7, b"m" * 32)


def settle(escrow: bytes, cumulative: int, chunk: int = 0, epoch: int = 1) -> Settle:
    return Settle(escrow, chunk, epoch, cumulative)


def with_policy(policy: Policy = POLICY, genesis: Genesis = GENESIS) -> Genesis:
    """The same network with its economics in force."""
    return replace(genesis, policy=policy)


class World:
    """A ledger with its operations signed and applied in one call; every invariant is checked after each."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.ledger = Ledger(genesis)
        self.time = int(genesis.time)

    def do(self, operation: Operation, *signers: Identity, at: int = 0) -> Outcome:
        self.time = max(self.time, at)
        outcome = self.ledger.apply(signed_op(CHAIN, operation, *signers), self.time)
        self.ledger.check()
        return outcome

    def ok(self, operation: Operation, *signers: Identity, at: int = 0) -> bytes:
        """Must apply; the operation's id."""
        outcome = self.do(operation, *signers, at=at)
        assert outcome.status == "applied", outcome
        return outcome.op

    def refused(self, operation: Operation, *signers: Identity, at: int = 0) -> str:
        """Must be refused; the code. Money stays where it is."""
        self.ledger.advance(max(self.time, at))
        before = self.money()
        outcome = self.do(operation, *signers, at=at)
        assert outcome.status == "refused", outcome
        assert self.money() == before
        return outcome.code

    def pass_time(self, to: int) -> int:
        """Move the ledger clock; where it now stands."""
        self.time = max(self.time, to)
        self.ledger.advance(self.time)
        self.ledger.check()
        return self.time

    def leased(self, chunk: int = 0, provider: Identity = PROVIDERS[0]) -> bytes:
        """A fresh escrow with one chunk leased; the escrow's id."""
        escrow = self.ok(open_escrow(sequence=self.ledger.next_sequence(RENTER.peer)), RENTER)
        self.ok(assign(escrow, chunk, provider=provider), STEWARD, provider)
        return escrow

    def claimed(self, is_traced: bool = False) -> bytes:
        """As `leased`, and claimed."""
        escrow = self.leased()
        self.ok(claim(escrow, is_traced=is_traced), PROVIDERS[0])
        return escrow

    def held(self, escrow: bytes, chunk: int = 0, epoch: int = 1) -> Held:
        return self.ledger.held[held_id(escrow, chunk, epoch)]

    def mature(self) -> int:
        """Let the window that is open now end."""
        return self.pass_time(self.time + WINDOW + 1)

    def lease(self, escrow: bytes, chunk: int = 0) -> ChunkLease:
        return self.ledger.escrows[escrow].chunks[chunk]

    def money(self) -> dict[tuple[str, bytes], int]:
        """Spendable by account, empty ones left out."""
        accounts = self.ledger._state.accounts
        return {key: accounts.available(key) for key in accounts if accounts.available(key)}


def posted(escrow: Escrow, kinds: Iterable[str]) -> int:
    """Sum of an escrow's statement lines of these kinds."""
    wanted = set(kinds)
    return sum(line.amount for line in escrow.lines if line.kind in wanted)
