"""Escrows that are closed for long: their totals are kept, nothing else, and no answer changes."""

from __future__ import annotations

import pytest

from protocol import closing
from protocol.beacon import seal_part
from protocol.errors import LocalError
from protocol.escrow_state import LedgerState
from protocol.operations import Assign, BeaconCommit, BeaconReveal, EscrowClose, signed_op
from protocol.policy import Policy
from protocol.units import SECOND
from tests.protocol.ledger_world import (
    CHAIN,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    WATCHERS,
    World,
    claim,
    handover,
    open_escrow,
    verdict,
    with_policy,
)

P = PROVIDERS[0]
MIN = 3
TIME = 10_000 * SECOND
JOB = 200 * SECOND


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "KEPT_MIN", MIN)
    monkeypatch.setattr(closing, "KEPT_TIME", TIME)


def opened(world: World, number: int) -> bytes:
    """An escrow with one leased chunk; the deadline is far."""
    escrow = world.ok(open_escrow(10**6, number, world.time + 100 * TIME, number.to_bytes(16, "big")), RENTER)
    times = (world.time + JOB, world.time + 2 * JOB)
    world.ok(Assign(escrow, 0, 1, P.peer, 1_000, 1_000, *times, WATCHERS), STEWARD, P)
    return escrow


def job(world: World, number: int) -> bytes:
    """A whole life, as one block."""
    escrow = opened(world, number)
    world.ok(claim(escrow), P)
    world.ok(verdict(escrow), VALIDATOR)
    world.ok(EscrowClose(escrow), STEWARD)
    world.mature()
    block(world)
    return escrow


def block(world: World) -> None:
    world.ledger.state_root()
    world.ledger.commit((world.ledger.height + 1).to_bytes(32, "big"))


def sizes(state: LedgerState) -> tuple[int, ...]:
    accounts = sum(key[0] == "E" for key in state.accounts)
    return len(state.escrows), len(state.closed), len(state.held), len(state.retired), accounts


def test_what_is_whole_does_not_grow_with_finished_jobs() -> None:
    world, seen = World(with_policy()), []
    for number in range(12):
        job(world, number)
        world.pass_time(world.time + TIME // 2)
        seen.append(sizes(world.ledger._state))
    assert seen[-1] == seen[5] == (MIN,) * 5
    assert len(world.ledger.bygone) == 12 - MIN


def test_the_young_are_kept_however_many() -> None:
    world = World(with_policy())
    escrows = [job(world, number) for number in range(3 * MIN)]
    assert list(world.ledger.escrows) == escrows and not world.ledger.bygone


def test_the_newest_are_kept_however_old() -> None:
    world = World(with_policy())
    escrows = [job(world, number) for number in range(MIN)]
    world.pass_time(world.time + 100 * TIME)
    newest = job(world, MIN)
    assert list(world.ledger.escrows) == [*escrows[1:], newest]
    assert list(world.ledger.bygone) == [escrows[0]]


def test_what_is_open_is_kept_whatever_its_age() -> None:
    world = World(with_policy())
    alive = opened(world, 0)
    for number in range(1, 10):
        job(world, number)
        world.pass_time(world.time + TIME)
    assert alive in world.ledger.escrows and len(world.ledger.bygone) == 9 - MIN


def test_what_was_due_in_it_later_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was closed long before its deadline, and before the ends of its leases' times."""
    monkeypatch.setattr(closing, "KEPT_TIME", SECOND)
    world = World(with_policy())
    for number in range(2 * MIN):
        job(world, number)
    assert world.ledger.bygone and world.ledger._state.due
    world.pass_time(world.time + 1_000 * TIME)
    assert not world.ledger._state.due


def test_an_id_is_never_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "KEPT_TIME", 0)
    world = World()
    first = open_escrow(10**6)
    escrow = world.ok(first, RENTER)
    world.ok(EscrowClose(escrow), STEWARD)
    for number in range(1, MIN + 2):
        job(world, number)
    before = world.ledger.encode()
    assert escrow in world.ledger.bygone
    assert world.ledger.apply(signed_op(CHAIN, first, RENTER), world.time).status == "applied"  # Once, long ago.
    assert world.ledger.encode() == before
    times = (world.time, world.time + 1)
    assert world.refused(Assign(escrow, 0, 1, P.peer, 10, 10, *times, WATCHERS), STEWARD, P) == "escrow_closed"
    assert world.refused(EscrowClose(bytes(32)), STEWARD) == "no_escrow"


def test_shares_of_handed_over_leases_are_kept() -> None:
    world = World(with_policy())
    escrow = opened(world, 0)
    world.ok(handover(escrow), STEWARD, P)
    times = (world.time + JOB, world.time + 2 * JOB)
    world.ok(Assign(escrow, 0, 2, PROVIDERS[1].peer, 500, 500, *times, WATCHERS), STEWARD, PROVIDERS[1])
    world.ok(claim(escrow, epoch=2, provider=PROVIDERS[1]), PROVIDERS[1])
    world.ok(verdict(escrow, epoch=2), VALIDATOR)
    world.mature()
    world.ok(EscrowClose(escrow), STEWARD)
    block(world)
    world.pass_time(world.time + TIME)
    for number in range(1, MIN + 1):
        job(world, number)
    past = world.ledger.bygone[escrow]
    assert [(chunk, item.provider, item.amount, item.outcome) for chunk, item in past.shares] == [
        (0, P.peer, 500, "paid")
    ]
    assert past.paid + past.commission == 1_000 and past.refunded == 10**6 - 1_000


def test_a_beacon_passes_over_claims_of_forgotten_escrows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that nobody judged in time still waits on the list when its escrow is forgotten."""
    monkeypatch.setattr(closing, "KEPT_MIN", 0)
    world = World(with_policy(Policy(dispute_window=0, has_beacon=True)))
    escrow = opened(world, 0)
    world.ok(claim(escrow), P)
    world.pass_time(world.time + 3 * JOB)
    world.ok(EscrowClose(escrow), STEWARD)
    block(world)
    world.pass_time(world.time + 2 * TIME)
    other = opened(world, 1)
    world.ok(claim(other), P)
    third = world.ok(open_escrow(1_000, 2, world.time + TIME), RENTER)
    world.ok(EscrowClose(third), STEWARD)
    block(world)
    assert escrow in world.ledger.bygone and (escrow, 0, 1) in world.ledger.uncovered
    number = world.ledger.beacon_wanted
    assert number is not None
    world.ok(BeaconCommit(number, VALIDATOR.peer, seal_part(VALIDATOR.peer, number, bytes(32))), VALIDATOR)
    block(world)
    world.ok(BeaconReveal(number, VALIDATOR.peer, bytes(32)), VALIDATOR)
    assert world.lease(other).beacon and not world.ledger.uncovered


def test_money_is_never_forgotten() -> None:
    world = World()
    escrow = world.ok(open_escrow(10**6), RENTER)
    with pytest.raises(LocalError):
        world.ledger._state.accounts.forget(("E", escrow))
