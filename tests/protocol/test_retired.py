"""Final decisions of closed escrows: the newest are kept for whoever looks, all others are forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import escrow_state, wire
from protocol.escrow_state import ChunkLease, LedgerState, Standing
from protocol.held import held_id
from protocol.ledger import Ledger
from protocol.operations import EscrowClose, signed_op
from tests.protocol.ledger_world import (
    CHAIN,
    DEADLINE,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    VALIDATOR,
    WINDOW,
    World,
    appeal,
    assign,
    claim,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)

P = PROVIDERS[0]
KEPT = 6


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(escrow_state, "RETIRED_MAX", KEPT)
    return World(with_policy())


def job(world: World, number: int, chunks: int = 2) -> bytes:
    """A whole life: two chunks, one of them judged wrong; closed, and final."""
    last = world.time + 10 * WINDOW
    escrow = world.ok(open_escrow(10**8, number, last), RENTER)
    for chunk in range(chunks):
        times = {"claim_by": last - 1, "verdict_by": last}
        world.ok(assign(escrow, chunk, price=1_000, collateral=1_000, **times), STEWARD, P)  # type: ignore[arg-type]
        world.ok(claim(escrow, chunk), P)
        world.ok(verdict(escrow, "wrong" if chunk else "accept", chunk), VALIDATOR)
    world.ok(EscrowClose(escrow), STEWARD)
    world.mature()
    assert world.ledger.escrows[escrow].is_closed
    world.ledger.state_root()
    world.ledger.commit(number.to_bytes(32, "big"))
    return escrow


def sizes(state: LedgerState) -> tuple[int, ...]:
    """Of everything about decisions that outlives an operation."""
    kept = (state.held, state.retired, state.held_of, state.held_in, state.held_pay, state.flight, state.claimed)
    return (*(len(one) for one in kept), len(state.uncovered), len(state.accounts.pending))


def test_what_is_kept_of_decisions_does_not_grow_with_finished_jobs(world: World) -> None:
    seen = []
    for number in range(12):
        job(world, number)
        seen.append(sizes(world.ledger._state))
    assert seen[-1] == seen[KEPT // 2] == (KEPT, KEPT, 0, 0, 0, 0, 0, 0, 0)


def test_what_is_due_does_not_grow_either(world: World) -> None:
    for number in range(12):
        job(world, number)
    world.pass_time(world.time + 20 * WINDOW)
    assert world.ledger._state.due == []


def test_the_newest_are_kept(world: World) -> None:
    escrows = [job(world, number) for number in range(5)]
    for escrow in escrows[-3:]:
        assert [world.held(escrow, chunk).end for chunk in (0, 1)] == ["paid", "slashed"]
    assert held_id(escrows[0], 0, 1) not in world.ledger.held


def test_what_is_open_or_of_an_open_escrow_is_never_forgotten(world: World) -> None:
    late = {"claim_by": DEADLINE + 10**9, "verdict_by": DEADLINE + 10**9 + 1}
    alive = world.ok(open_escrow(10**8, 0, DEADLINE + 10**10), RENTER)
    for chunk in range(KEPT + 2):
        world.ok(assign(alive, chunk, price=1_000, collateral=0, **late), STEWARD, P)  # type: ignore[arg-type]
        world.ok(claim(alive, chunk), P)
        world.ok(verdict(alive, chunk=chunk), VALIDATOR)
    world.mature()
    for number in range(1, 6):
        job(world, number)
    assert all(world.held(alive, chunk).end == "paid" for chunk in range(KEPT + 2))


def test_nobody_appeals_against_what_is_forgotten(world: World) -> None:
    first = job(world, 0)
    assert world.refused(appeal(first, P, chunk=1), P) == "not_held"
    for number in range(1, 6):
        job(world, number)
    assert world.refused(appeal(first, P, chunk=1), P) == "not_held"
    assert world.refused(ruling(first, "accept", chunk=1), VALIDATOR) == "not_held"


def test_replicas_forget_the_same(world: World) -> None:
    for number in range(6):
        job(world, number)
    other = Ledger(with_policy())
    other.apply(signed_op(CHAIN, open_escrow(10**8, 0), RENTER), START)
    assert other.encode() != world.ledger.encode()
    again = World(with_policy())
    for number in range(6):
        job(again, number)
    assert again.ledger.encode() == world.ledger.encode()


@given(data=st.data())
def test_a_lease_enters_the_root_as_its_fields_do(data: st.DataObject) -> None:
    """Fast and slow way to the same bytes: every old field, and of the young ones those that say something."""
    some = {"beacon": b"b" * 32, "trace": b"t" * 32, "units": 7, "evidence": 5, "held_until": 9, "inherited": {1: b"p"}}
    chosen = data.draw(st.sets(st.sampled_from(sorted(some))))
    lease = ChunkLease(3, 2, "claimed", b"p" * 32, claimed_in=data.draw(st.sampled_from([b"", b"b" * 32, b"c" * 32])))
    for name in chosen:
        setattr(lease, name, some[name])
    left_out = {*escrow_state.YOUNG_FIELDS[ChunkLease], "former", "prefixes", "tainted"}
    fields = {name: getattr(lease, name) for name in ChunkLease.__struct_fields__ if name not in left_out}
    is_own = lease.beacon == lease.claimed_in
    fields |= {name: some[name] for name in some if name in chosen and not (name == "beacon" and is_own)}
    assert wire.encode(escrow_state.rooted(lease)) == wire.encode(fields)


@given(counts=st.lists(st.integers(0, 2), min_size=17, max_size=17))
def test_a_standing_does_too(counts: list[int]) -> None:
    standing = Standing(*counts)
    young = escrow_state.YOUNG_FIELDS[Standing]
    fields = {name: getattr(standing, name) for name in Standing.__struct_fields__}
    expected = {name: value for name, value in fields.items() if value or name not in young}
    assert wire.encode(escrow_state.rooted(standing)) == wire.encode(expected)
