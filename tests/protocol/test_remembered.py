"""What the ledger remembers of operations is bounded: by its open escrows, and by time."""

from __future__ import annotations

import pytest

from protocol import closing, remembered
from protocol.operations import EscrowClose, Transfer
from protocol.remembered import REMEMBERED_TIME
from protocol.units import DAY
from tests.protocol.ledger_world import PROVIDERS, RENTER, STEWARD, World, assign, claim, fence, open_escrow, surrender


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED_MIN", 3)
    monkeypatch.setattr(closing, "KEPT_MIN", 0)


def pay(world: World, sequence: int) -> bytes:
    outcome = world.do(Transfer(RENTER.peer, 1, sequence, PROVIDERS[0].peer, 1), RENTER)
    world.ledger.commit(bytes(32))
    assert outcome.status == "applied"
    return outcome.op


def test_what_is_old_and_not_among_the_newest_is_forgotten() -> None:
    world = World()
    ids = [pay(world, sequence) for sequence in range(5)]
    assert list(world.ledger.outcomes) == ids, "all are young"
    world.ledger.advance(world.ledger.time + REMEMBERED_TIME + 1)
    world.ledger.commit(bytes(32))
    assert list(world.ledger.outcomes) == ids[2:]
    ids.append(pay(world, 5))
    assert list(world.ledger.outcomes) == ids[3:]


def test_a_forgotten_transfer_is_refused_and_a_remembered_one_gets_its_first_outcome() -> None:
    world = World()
    for sequence in range(5):
        pay(world, sequence)
    world.ledger.advance(world.ledger.time + REMEMBERED_TIME + 1)
    world.ledger.commit(bytes(32))
    before, root = world.ledger.available("U", RENTER.peer), world.ledger.state_root()
    again = [world.do(Transfer(RENTER.peer, 1, n, PROVIDERS[0].peer, 1), RENTER).code for n in range(5)]
    assert again == ["sequence_used", "sequence_used", "ok", "ok", "ok"]
    assert world.ledger.available("U", RENTER.peer) == before
    world.ledger.check()
    assert world.ledger.root == root


def test_what_was_done_in_an_escrow_is_remembered_as_long_as_the_escrow_is_and_no_longer() -> None:
    world = World()
    escrow = world.do(open_escrow(deadline=world.ledger.time + 300 * DAY), RENTER).op
    for operation, signers in (
        (assign(escrow), (STEWARD, PROVIDERS[0])),
        (claim(escrow), (PROVIDERS[0],)),
    ):
        assert world.do(operation, *signers).status == "applied"
    world.ledger.advance(world.ledger.time + 100 * DAY)
    world.ledger.commit(bytes(32))
    assert world.do(claim(escrow), PROVIDERS[0]).status == "applied", "the first outcome, of a hundred days ago"
    assert world.do(fence(escrow), STEWARD).status == world.do(surrender(escrow), PROVIDERS[0]).status == "refused"
    closed = world.do(EscrowClose(escrow), STEWARD)
    assert closed.status == "applied", closed
    world.ledger.commit(bytes(32))
    assert escrow in world.ledger.escrows and len(world.ledger.outcomes) == 4
    other = world.do(open_escrow(sequence=1, deadline=world.ledger.time + 300 * DAY), RENTER).op
    world.ledger.advance(world.ledger.time + closing.KEPT_TIME + 1)
    assert world.do(EscrowClose(other), STEWARD).status == "applied"  # What is closed next makes it forget.
    world.ledger.commit(bytes(32))
    assert escrow in world.ledger.bygone
    assert world.do(claim(escrow), PROVIDERS[0]).code == "escrow_closed"
    assert world.do(EscrowClose(escrow), STEWARD).code == "escrow_closed"
