"""The ledger under random histories: invariants I1-I7 after every step, and the same bytes on every replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.accounts import FEES, RESERVE, TREASURY
from protocol.carried import waiting
from protocol.chain import Chain
from protocol.errors import LocalError
from protocol.escrow_state import ChunkLease
from protocol.identity import Identity
from protocol.ledger import Ledger, check
from protocol.operations import (
    HANDED_PPM_MAX,
    PRICE_STEP,
    Assign,
    Bond,
    Claim,
    EscrowClose,
    EscrowExtend,
    EscrowOpen,
    Fence,
    Handover,
    Mint,
    Operation,
    Settle,
    SignedOp,
    Surrender,
    Transfer,
    Unbond,
    Verdict,
    WithdrawEnd,
    WithdrawExt,
    commission,
    handed_share,
    signed_op,
    slash,
)
from protocol.policy import UNBOND_TIME
from protocol.units import CREDIT, SECOND, Micros, PeerId
from tests.protocol import forgetful
from tests.protocol.ledger_world import (
    CHAIN,
    GENESIS,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STANDBY,
    START,
    STEWARD,
    VALIDATOR,
    WATCHERS,
    World,
    assign,
    claim,
    handover,
    open_escrow,
    verdict,
)

SENDER: Final = PeerId(bytes(32))
PEOPLE: Final = (RENTER, STEWARD, *PROVIDERS)
SPANS: Final = st.sampled_from([0, 1, SECOND, 20 * SECOND, 100 * SECOND, UNBOND_TIME])
AMOUNTS: Final = st.integers(1, 40 * CREDIT)


class LedgerMachine(RuleBasedStateMachine):
    """A naive model of balances beside the real ledger; most operations are plausible, some are not."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(GENESIS)
        self.now = int(START)
        self.last = bytes(32)
        self.history: list[tuple[int, SignedOp | None]] = []
        """(ledger time, operation, or None where time passed alone)."""
        self.posted: dict[tuple[str, bytes], tuple[int, int]] = {}
        self.withdrawals: list[bytes] = []
        self.references = 0

    # ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def submit(self, operation: Operation, *signers: Identity) -> bool:
        signed = signed_op(CHAIN, operation, *signers)
        self.history.append((self.now, signed))
        self.last = signed.op_id
        outcome = self.ledger.apply(signed, self.now, verified=True)
        return outcome.status == "applied"

    def next(self, owner: Identity) -> tuple[PeerId, int, int]:
        return owner.peer, 0, self.ledger.next_sequence(owner.peer)

    def pick(self, data: st.DataObject, *states: str) -> tuple[bytes, ChunkLease]:
        found = self.leases(*states)
        return data.draw(st.sampled_from(found))

    def leases(self, *states: str) -> list[tuple[bytes, ChunkLease]]:
        escrows = self.ledger.escrows.items()
        return [(key, lease) for key, escrow in escrows for lease in escrow.chunks.values() if lease.state in states]

    def provider(self, lease: ChunkLease) -> Identity:
        return next(item for item in PROVIDERS if item.peer == lease.provider)

    @rule(span=SPANS)
    def pass_time(self, span: int) -> None:
        self.now += span
        self.ledger.advance(self.now)
        self.history.append((self.now, None))

    @rule(owner=st.sampled_from(PEOPLE), to=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def transfer(self, owner: Identity, to: Identity, amount: int) -> None:
        have = self.ledger.available("U", owner.peer)
        done = self.submit(Transfer(*self.next(owner), to.peer, amount), owner)
        assert done == (owner != to and have >= amount)

    @rule(owner=st.sampled_from(PEOPLE), amount=AMOUNTS, is_bond=st.booleans())
    def bond(self, owner: Identity, amount: int, is_bond: bool) -> None:
        have = self.ledger.available("U" if is_bond else "S", owner.peer)
        kind = Bond if is_bond else Unbond
        assert self.submit(kind(*self.next(owner), amount), owner) == (have >= amount)

    @rule(owner=st.sampled_from(PEOPLE), amount=AMOUNTS)
    def withdraw(self, owner: Identity, amount: int) -> None:
        if self.submit(WithdrawExt(*self.next(owner), "bank", amount), owner):
            self.withdrawals.append(self.last)

    @rule(data=st.data(), is_paid=st.booleans())
    @precondition(lambda self: bool(self.withdrawals))
    def withdraw_end(self, data: st.DataObject, is_paid: bool) -> None:
        chosen = data.draw(st.sampled_from(self.withdrawals))
        is_open = chosen in self.ledger._state.accounts.pending
        is_new = signed_op(CHAIN, WithdrawEnd(chosen, is_paid)).op_id not in self.ledger.outcomes
        assert self.submit(WithdrawEnd(chosen, is_paid), VALIDATOR) == (is_open or not is_new)

    @rule(amount=AMOUNTS, to=st.sampled_from(PEOPLE))
    def mint(self, amount: int, to: Identity) -> None:
        self.references += 1
        assert self.submit(Mint(self.references.to_bytes(32, "big"), to.peer, amount), VALIDATOR)

    @rule(cap=AMOUNTS, span=st.sampled_from([0, 30 * SECOND, 400 * SECOND]))
    def open(self, cap: int, span: int) -> None:
        operation = EscrowOpen(*self.next(RENTER), bytes(16), cap, bytes(32), STEWARD.peer, self.now + span)
        have = self.ledger.available("U", RENTER.peer)
        assert self.submit(operation, RENTER) == (span > 0 and have >= cap)

    @rule(data=st.data(), owner=st.sampled_from((RENTER, RENTER, STEWARD)), amount=AMOUNTS | st.just(0))
    @precondition(lambda self: bool(self.ledger.escrows))
    def extend(self, data: st.DataObject, owner: Identity, amount: int) -> None:
        escrow = self.ledger.escrows[data.draw(st.sampled_from(sorted(self.ledger.escrows)))]
        span = data.draw(st.sampled_from([-1, 0, 100 * SECOND]))
        cap, deadline = escrow.cap, escrow.deadline
        can = (
            not escrow.is_closed
            and owner == RENTER
            and span >= 0
            and amount + span > 0
            and self.ledger.available("U", owner.peer) >= amount
        )
        assert self.submit(EscrowExtend(*self.next(owner), escrow.id, amount, deadline + span), owner) == can
        assert (escrow.cap, escrow.deadline) == ((cap + amount, deadline + span) if can else (cap, deadline))

    @rule(data=st.data(), chunk=st.integers(0, 2), provider=st.sampled_from(PROVIDERS), price=AMOUNTS | st.just(0))
    @precondition(lambda self: bool(self.ledger.escrows))
    def assign(self, data: st.DataObject, chunk: int, provider: Identity, price: int) -> None:
        escrow = self.ledger.escrows[data.draw(st.sampled_from(sorted(self.ledger.escrows)))]
        collateral = data.draw(AMOUNTS | st.just(0))
        lease = escrow.chunks.get(chunk)
        epoch = max(1, (lease.epoch if lease else 0) + data.draw(st.sampled_from([1, 1, 1, 0, 2])))
        times = (self.now + 10 * SECOND, self.now + 25 * SECOND)
        can = (
            not escrow.is_closed
            and (lease is None or lease.state == "free")
            and epoch == (lease.epoch if lease else 0) + 1
            and times[1] <= escrow.deadline
            and self.ledger.available("E", escrow.id) >= price
            and self.ledger.available("S", provider.peer) >= collateral
        )
        operation = Assign(escrow.id, chunk, epoch, provider.peer, price, collateral, *times, WATCHERS)
        before = self.ledger.encode()
        is_new = signed_op(CHAIN, operation).op_id not in self.ledger.outcomes
        done = self.submit(operation, STEWARD, provider)
        assert done == can or not is_new
        assert done or before == self.ledger.encode(), "a refused operation without a sequence leaves no trace"

    @rule(data=st.data())
    @precondition(lambda self: bool(self.leases("assigned")))
    def claim(self, data: st.DataObject) -> None:
        escrow, lease = self.pick(data, "assigned")
        assert self.submit(Claim(escrow, lease.chunk, lease.epoch, bytes(32)), self.provider(lease))

    @rule(data=st.data(), is_fence=st.booleans())
    @precondition(lambda self: bool(self.leases("assigned")))
    def give_back(self, data: st.DataObject, is_fence: bool) -> None:
        escrow, lease = self.pick(data, "assigned")
        free = self.ledger.available("E", escrow) + lease.price
        if is_fence:
            assert self.submit(Fence(escrow, lease.chunk, lease.epoch), STANDBY, OTHER)
        else:
            assert self.submit(Surrender(escrow, lease.chunk, lease.epoch, "draining"), self.provider(lease))
        assert self.ledger.available("E", escrow) == free

    @rule(data=st.data(), done=st.sampled_from([0, 1, 333_333, 500_000, 990_000, 990_001]))
    @precondition(lambda self: bool(self.leases("assigned")))
    def hand_over(self, data: st.DataObject, done: int) -> None:
        escrow, lease = self.pick(data, "assigned")
        before, price, collateral = lease.done_ppm, lease.price, lease.collateral
        free, stake = self.ledger.available("E", escrow), self.ledger.available("S", lease.provider)
        operation = Handover(escrow, lease.chunk, lease.epoch, done, 1, bytes(32))
        can = before <= done <= HANDED_PPM_MAX
        assert self.submit(operation, self.provider(lease), STEWARD) == can
        if can:
            share = handed_share(price, before, done)
            assert self.ledger.available("E", escrow) == free + price - share
            assert self.ledger.available("S", lease.provider) == stake + collateral
            assert share % PRICE_STEP == 0 <= share <= price

    @rule(data=st.data(), share=st.integers(0, 100))
    @precondition(lambda self: bool(self.leases("assigned", "claimed")))
    def settle(self, data: st.DataObject, share: int) -> None:
        escrow, lease = self.pick(data, "assigned", "claimed")
        amount, payee = lease.price * share // 100, lease.provider
        shares = [item.amount for item in waiting(lease) if item.provider == payee]
        before = self.ledger.available("U", payee)
        assert self.submit(Settle(escrow, lease.chunk, lease.epoch, amount), self.provider(lease), RENTER)
        gain = sum(part - commission(part) for part in (amount, *shares))
        assert self.ledger.available("U", payee) == before + gain

    @rule(data=st.data(), outcome=st.sampled_from(["accept", "accept", "wrong", "fraud", "missing"]))
    @precondition(lambda self: bool(self.leases("assigned", "claimed")))
    def verdict(self, data: st.DataObject, outcome: str) -> None:
        escrow, lease = self.pick(data, "assigned", "claimed")
        accounts = (("U", lease.provider), FEES, TREASURY, ("E", escrow))
        before = [self.ledger.available(*key) for key in accounts]
        price, collateral, is_claimed = lease.price, lease.collateral, lease.state == "claimed"
        shares = [(item.provider, item.amount) for item in waiting(lease)]
        fields = (False, VALIDATOR.peer, bytes(32), bytes(32), "hash_equal")
        operation = Verdict(escrow, lease.chunk, lease.epoch, outcome, *fields)  # type: ignore[arg-type]
        assert self.submit(operation, VALIDATOR) == is_claimed
        after = [self.ledger.available(*key) for key in accounts]
        gains = [b - a for a, b in zip(before, after, strict=True)]
        fine, spoilt = slash(price, collateral, outcome), sum(amount for _, amount in shares)
        own = sum(amount - commission(amount) for provider, amount in shares if provider == lease.provider)
        fees = commission(price) + sum(commission(amount) for _, amount in shares)
        if outcome == "accept":
            expected = [price - commission(price) + own, fees, 0, 0]
        else:
            expected = [0, 0, fine, price + (0 if outcome == "missing" else spoilt)]
        assert gains == (expected if is_claimed else [0, 0, 0, 0])

    @rule(data=st.data())
    @precondition(lambda self: bool(self.ledger.escrows))
    def close(self, data: st.DataObject) -> None:
        escrow = self.ledger.escrows[data.draw(st.sampled_from(sorted(self.ledger.escrows)))]
        can = not escrow.is_closed and escrow.leased == 0
        is_new = signed_op(CHAIN, EscrowClose(escrow.id)).op_id not in self.ledger.outcomes
        assert self.submit(EscrowClose(escrow.id), STEWARD) == (can or not is_new)

    @rule(data=st.data())
    @precondition(lambda self: any(signed for _, signed in self.history))
    def replay(self, data: st.DataObject) -> None:
        """I6: the same bytes again give the same outcome and no effect, if they had one."""
        signed = data.draw(st.sampled_from([signed for _, signed in self.history if signed is not None]))
        known = self.ledger.outcomes.get(signed.op_id)
        if known is not None:
            before = self.ledger.encode()
            assert self.ledger.apply(signed, self.now) == known[1]
            assert self.ledger.encode() == before

    # ── invariants ───────────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def books_balance(self) -> None:
        """I1-I5."""
        self.ledger.check()

    @invariant()
    def escrows_end_at_their_deadline(self) -> None:
        """Open until it has passed, as last extended, and no longer."""
        assert all(item.is_closed or self.ledger.time <= item.deadline for item in self.ledger.escrows.values())

    @invariant()
    def a_share_is_paid_at_most_once(self) -> None:
        """Kept, taken back or waiting; and what an escrow paid is its leases' prices and the shares that were kept."""
        for escrow in self.ledger.escrows.values():
            kept = sum(
                item.amount for lease in escrow.chunks.values() for item in lease.carried if item.outcome == "paid"
            )
            lines = sum(line.amount for line in escrow.lines if line.note.endswith("%, paid"))
            assert kept == lines <= escrow.paid + escrow.commission <= escrow.cap
            for lease in escrow.chunks.values():
                assert not (lease.state == "paid" and waiting(lease))
                assert sorted(item.epoch for item in lease.carried) == [item.epoch for item in lease.carried]

    @invariant()
    def posted_never_falls(self) -> None:
        """I7."""
        accounts = self.ledger._state.accounts
        for key in list(accounts):
            account = accounts[key]
            now = (account.debits_posted, account.credits_posted)
            then = self.posted.get(key, (0, 0))
            assert now >= then
            assert now[1] >= then[1]
            self.posted[key] = now

    @invariant()
    def all_money_is_somewhere(self) -> None:
        """I3, counted another way: free and pended over all classes is what the reserve owes."""
        accounts = self.ledger._state.accounts
        held = sum(accounts[key].credits_posted - accounts[key].debits_posted for key in accounts if key != RESERVE)
        reserve = accounts[RESERVE]
        assert held == reserve.debits_posted - reserve.credits_posted

    def teardown(self) -> None:
        """I9: another replica with the same history holds the same bytes; one that forgets gives the same answers."""
        other = Ledger(GENESIS)
        for time, signed in self.history:
            if signed is None:
                other.advance(time)
            else:
                other.apply(signed, time, verified=True)
        assert other.encode() == self.ledger.encode()
        assert other.state_root() == self.ledger.state_root()
        forgetful.compare(GENESIS, self.history)


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLedger = LedgerMachine.TestCase


@given(body=st.binary(max_size=200))
def test_any_bytes_as_an_operation_are_refused(body: bytes) -> None:
    ledger = Ledger(GENESIS)
    outcome = ledger.apply(SignedOp(body, ()), START)
    assert outcome.status == "refused"
    assert ledger.encode() == Ledger(GENESIS).encode()


def test_an_operation_in_another_encoding_is_refused() -> None:
    """The same map with one integer encoded wider than needed."""
    signed = signed_op(CHAIN, EscrowClose(bytes(32)), STEWARD)
    assert signed.body[0] == 0x82
    wide = b"\xde\x00\x02" + signed.body[1:]
    assert Ledger(GENESIS).apply(SignedOp(wide, ()), START).code == "not_canonical"


def test_the_state_root_covers_every_record_that_changed() -> None:
    """Two histories that differ only in one field of one record have different roots from there on."""
    roots = set()
    for outcome in ("accept", "wrong", "fraud", "missing"):
        world = World()
        escrow = world.claimed()
        world.ok(verdict(escrow, outcome), VALIDATOR)
        roots.add(world.ledger.state_root())
    assert len(roots) == 4


def test_a_claim_gets_the_hash_of_its_block() -> None:
    chain = Chain(GENESIS)
    steps: list[tuple[Operation, tuple[Identity, ...]]] = [(open_escrow(), (RENTER,))]
    escrow = signed_op(CHAIN, steps[0][0]).op_id
    steps += [(assign(escrow), (STEWARD, PROVIDERS[0])), (claim(escrow), (PROVIDERS[0],))]
    for number, (operation, signers) in enumerate(steps):
        checked = check(signed_op(CHAIN, operation, *signers), CHAIN, SENDER)
        _, outcomes = chain.extend([checked], Micros(START + 1_000 * (number + 1)))
        assert outcomes[0].status == "applied"
    beacon = chain.head_hash
    assert chain.ledger.escrows[escrow].chunks[0].claimed_in == beacon
    chain.extend([], Micros(START + 10_000))
    assert chain.ledger.escrows[escrow].chunks[0].claimed_in == beacon


Damage = Callable[[Ledger, bytes], None]


def _overdraw(ledger: Ledger, escrow: bytes) -> None:
    ledger._state.accounts["U", RENTER.peer].debits_posted += 10**12


def _lose_a_promise(ledger: Ledger, escrow: bytes) -> None:
    ledger._state.accounts.pending.popitem()


def _forget_a_lease(ledger: Ledger, escrow: bytes) -> None:
    ledger.escrows[escrow].chunks[0].state = "free"


def _pay_beside_the_books(ledger: Ledger, escrow: bytes) -> None:
    ledger.escrows[escrow].paid += PRICE


def _pay_a_share_beside_the_books(ledger: Ledger, escrow: bytes) -> None:
    ledger.escrows[escrow].chunks[1].carried[0].outcome = "paid"


def _close_early(ledger: Ledger, escrow: bytes) -> None:
    ledger.escrows[escrow].is_closed = True


def _make_money(ledger: Ledger, escrow: bytes) -> None:
    ledger._state.accounts["U", RENTER.peer].credits_posted += 1


@pytest.mark.parametrize(
    "damage",
    [
        _overdraw,
        _lose_a_promise,
        _forget_a_lease,
        _pay_beside_the_books,
        _pay_a_share_beside_the_books,
        _close_early,
        _make_money,
    ],
)
def test_the_checks_see_damage(damage: Damage) -> None:
    world = World()
    escrow = world.leased()
    world.ok(assign(escrow, 1, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])
    world.ok(handover(escrow, chunk=1), STEWARD, PROVIDERS[1])
    damage(world.ledger, escrow)
    with pytest.raises(LocalError):
        world.ledger.check()
