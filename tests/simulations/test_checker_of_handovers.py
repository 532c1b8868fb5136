"""The epochs checker on leases that were handed over: silent about what is right, loud about one thing wrong."""

from __future__ import annotations

from protocol.effects import Compute, Stop
from simulations.checkers.epochs import Epochs
from tests.protocol.ledger_world import PROVIDERS, STEWARD, VALIDATOR, assign, claim, handover, verdict
from tests.simulations.test_checkers import ESCROW, LEASED, Chain, broken, leased

P = PROVIDERS[0]


def handed(done_ppm: int = 400_000) -> tuple[Chain, Epochs]:
    """Handed over at this share; the next lease lives."""
    stage, checker = leased()
    stage.order(handover(ESCROW, done_ppm), P, STEWARD)
    stage.order(assign(ESCROW, epoch=2), *LEASED)
    return stage, checker


def test_a_lease_that_was_handed_over_makes_room_for_the_next_epoch() -> None:
    stage, checker = handed()
    stage.order(handover(ESCROW, 400_000, epoch=2), P, STEWARD)
    stage.order(assign(ESCROW, epoch=3), *LEASED)
    stage.order(claim(ESCROW, epoch=3), P)
    stage.order(verdict(ESCROW, epoch=3), VALIDATOR)
    assert (checker.handovers, checker.verdicts) == (2, 1)


def test_a_share_that_falls() -> None:
    stage, _ = handed()
    with broken("handed over at 399999 ppm after 400000 ppm"):
        stage.order(handover(ESCROW, 399_999, epoch=2), P, STEWARD)


def test_a_wrong_result_begins_at_nothing() -> None:
    stage, _ = handed()
    stage.order(claim(ESCROW, epoch=2), P)
    stage.order(verdict(ESCROW, "wrong", epoch=2), VALIDATOR)
    stage.order(assign(ESCROW, epoch=3), *LEASED)
    stage.order(handover(ESCROW, 1, epoch=3), P, STEWARD)


def test_a_handover_without_its_provider() -> None:
    stage, _ = leased()
    with broken("Handover of epoch 1 without its provider's signature"):
        stage.order(handover(ESCROW), PROVIDERS[1], STEWARD)


def test_a_claim_after_the_handover() -> None:
    stage, _ = leased()
    stage.order(handover(ESCROW), P, STEWARD)
    with broken(r"after its end \(handover\)"):
        stage.order(claim(ESCROW), P)


def test_computing_on_after_the_handover_was_seen() -> None:
    stage, checker = leased()
    task = stage.run(2)
    told = stage.order(handover(ESCROW), P, STEWARD)
    checker.handled(stage.actors[2], told, [Compute(Stop(task))], 9)
    stage.order(assign(ESCROW, epoch=2), *LEASED)
    stage.run(2, epoch=2)
    told = stage.order(handover(ESCROW, epoch=2), P, STEWARD)
    with broken("having seen its end"):
        checker.handled(stage.actors[2], told, [], 9)
