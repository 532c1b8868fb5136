"""Who hears at once what became of an operation."""

from __future__ import annotations

from protocol.identity import Identity
from protocol.ledger import check
from protocol.operations import EscrowClose, Operation, signed_op
from protocol.units import PeerId
from tests.protocol.ledger_world import (
    CHAIN,
    PROVIDERS,
    RENTER,
    STEWARD,
    World,
    assign,
    claim,
    extend,
    open_escrow,
)
from verifier.parties import parties


def told(world: World, operation: Operation, *signers: Identity) -> set[PeerId]:
    """The parties of an operation, signed and checked."""
    return parties(world.ledger, check(signed_op(CHAIN, operation, *signers), CHAIN, STEWARD.peer))


def test_the_steward_hears_of_everything_that_happens_to_an_escrow() -> None:
    world = World()
    assert told(world, open_escrow(), RENTER) == {STEWARD.peer}
    escrow = world.leased()
    both = {STEWARD.peer, PROVIDERS[0].peer}
    assert told(world, extend(escrow), RENTER) == {STEWARD.peer}
    assert told(world, assign(escrow), STEWARD, PROVIDERS[0]) == both
    assert told(world, claim(escrow), PROVIDERS[0]) == both
    assert told(world, EscrowClose(escrow), RENTER) == {STEWARD.peer}


def test_an_extension_of_an_escrow_that_nobody_knows_concerns_no_peer() -> None:
    assert told(World(), extend(b"x" * 32), RENTER) == set()
