"""The epochs checker and appeals: what a ruling overturned may be leased again, what it upheld may not."""

from __future__ import annotations

from tests.protocol.ledger_world import PROVIDERS, STEWARD, VALIDATOR, assign, claim, ruling, verdict
from tests.simulations.test_checkers import ESCROW, LEASED, broken, leased


def test_a_committed_chunk_that_a_ruling_overturned_may_be_leased_again() -> None:
    stage, _ = leased()
    stage.order(claim(ESCROW), PROVIDERS[0])
    stage.order(verdict(ESCROW), VALIDATOR)
    stage.order(ruling(ESCROW, "fraud"), VALIDATOR)
    stage.order(assign(ESCROW, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])


def test_an_upheld_commit_is_still_one() -> None:
    stage, _ = leased()
    stage.order(claim(ESCROW), PROVIDERS[0])
    stage.order(verdict(ESCROW), VALIDATOR)
    stage.order(ruling(ESCROW, "accept", is_upheld=True), VALIDATOR)
    with broken("leased again at epoch 2, committed at 1"):
        stage.order(assign(ESCROW, epoch=2), *LEASED)
