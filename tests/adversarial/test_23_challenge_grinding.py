"""Attack 23: claim again and again until the challenge is pleasant."""

from __future__ import annotations

from protocol import operations
from protocol.operations import Claim
from protocol.policy import Policy
from simulations.units import EXACT
from tests.protocol.ledger_world import PROVIDERS, World, claim, with_policy
from tests.verifier.court import CHAIN, ESCROW, ME, PROVIDER, Court
from tests.verifier.unit_court import UNITS, UnitCourt, skipping
from verifier import challenge, sampling


def test_the_second_claim_is_refused_by_the_ledger_and_costs_the_whole_stake() -> None:
    world = World()
    escrow = world.claimed()
    assert world.refused(Claim(escrow, 0, 1, b"another".ljust(32)), PROVIDERS[0]) == "wrong_state"
    court = UnitCourt(conduct=skipping(4)).begin().unfold()
    again = Claim(ESCROW, 0, 1, b"another".ljust(32), trace=b"r" * 32, units=UNITS)
    signed = operations.signed_op(CHAIN, again, PROVIDER)
    court.hear(ME, court.receipts(signed, "refused"))
    assert court.found() == ("fraud", "equivocation", False)
    assert court.verdict().evidence == signed.op_id


def test_another_trace_under_the_same_seal_is_a_second_claim_too() -> None:
    court = UnitCourt().begin()
    again = Claim(ESCROW, 0, 1, court.case.sealed, trace=b"r" * 32, units=UNITS)
    court.hear(ME, court.receipts(operations.signed_op(CHAIN, again, PROVIDER), "refused"))
    assert court.found() == ("fraud", "equivocation", False)


def test_grinding_before_the_claim_meets_a_beacon_that_does_not_exist_yet() -> None:
    """Whatever is claimed, each beacon draws anew: no claim is pleasant for more beacons than any other."""
    place = (ESCROW, 0, 1)
    claims = [(bytes([number]) * 32, bytes([number + 1]) * 32) for number in range(20)]
    shares = []
    for sealed, trace in claims:
        hits = 0
        for number in range(400):
            drawn_from = challenge.seed(place, sealed, trace, bytes([number % 256, number // 256]).ljust(32))
            hits += 7 in challenge.indices(drawn_from, UNITS, 4, [1] * UNITS, touch=True)
        shares.append(hits / 400)
    expected = 2 / (UNITS - 2)
    assert all(abs(share - expected) < 5 * (expected / 400) ** 0.5 for share in shares)


def test_with_beacons_nothing_is_drawn_before_one_covers_the_claim() -> None:
    world = World(with_policy(Policy(has_beacon=True)))
    escrow = world.claimed()
    assert world.ledger.escrows[escrow].chunks[0].beacon == b""
    court = UnitCourt()
    court.claim(output=court.made.output, trace=court.provided.trace.root, units=UNITS)
    court.escrow.chunks[0].beacon = b""
    court.judge.cases.clear()
    court.judge.resume(court.now)
    court.know_spec()
    assert court.waits_for == "Gathering"


def test_whether_a_claim_is_drawn_at_all_does_not_depend_on_what_it_says() -> None:
    beacon = b"b" * 32
    drawn = {sampling.is_drawn(beacon, ESCROW, 0, 1, 500_000) for _ in range(3)}
    assert len(drawn) == 1


def test_the_honest_twin_may_hand_in_the_same_claim_as_often_as_it_likes() -> None:
    court = Court(valid=10**9)
    court.claim()
    same = Claim(ESCROW, 0, 1, court.case.sealed)
    for _ in range(3):
        court.hear(ME, court.receipts(operations.signed_op(CHAIN, same, PROVIDER), "refused"))
        assert court.effects == []
    world = World()
    escrow = world.leased()
    assert world.ok(claim(escrow), PROVIDERS[0])
    assert UnitCourt().judged(EXACT) == ("accept", "units_equal", True)
