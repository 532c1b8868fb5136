"""Whole jobs where pay is held: done, lied about, cancelled, restarted. The escrow closes by itself, and adds up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol import operations
from protocol.escrow_state import Escrow
from protocol.job_record import JobRecord
from protocol.messages import UnitsRequest
from protocol.units import SECOND, JobId
from tests.protocol.test_steward import finish, start
from tests.protocol.test_unit_jobs import CHEAPER, SKIPS, only, unit_spec
from tests.protocol.town import HELD_PAY, Town, job_spec

MakeTown = Callable[..., Town]


def closed(town: Town, record: JobRecord) -> Escrow:
    """The escrow once nothing is held any more."""
    town.run(lambda: town.ledger.escrows[record.escrow].is_closed)
    town.ledger.check()
    escrow = town.ledger.escrows[record.escrow]
    assert escrow.cap == escrow.paid + escrow.commission + escrow.evidence + escrow.refunded
    return escrow


@pytest.mark.parametrize("reduce", [False, True])
def test_a_job_is_over_with_its_results_and_paid_after_the_window(make_town: MakeTown, reduce: bool) -> None:
    town = make_town(providers=3, policy=HELD_PAY)
    record = start(town, job_spec(4, reduce=reduce))
    finish(town, record)
    escrow = town.ledger.escrows[record.escrow]
    assert record.state == "settled" and all(chunk.is_done for chunk in record.chunks)
    assert escrow.is_closing and not escrow.is_closed and escrow.paid == 0
    ended = town.now
    price = sum(chunk.price for chunk in record.chunks)
    assert closed(town, record).paid == price - sum(operations.commission(chunk.price) for chunk in record.chunks)
    assert 0 < town.now - ended <= HELD_PAY.dispute_window + 10 * SECOND


def test_a_liar_s_fine_waits_for_the_window(make_town: MakeTown) -> None:
    town = make_town(providers=3, policy=HELD_PAY)
    town.citizens["p0"].lies = True
    record = start(town, job_spec(6))
    liar = town.citizens["p0"].identity.peer
    town.run(lambda: liar in record.barred)
    assert town.ledger.escrows[record.escrow].slashed == 0
    finish(town, record)
    wrong = [item for item in town.ledger.held.values() if item.provider == liar]
    assert wrong and {item.finding for item in wrong} == {"wrong"}
    price = record.chunks[0].price
    assert closed(town, record).slashed == len(wrong) * operations.slash(price, price, "wrong")


def test_a_fraud_costs_all_and_the_job_goes_on(make_town: MakeTown) -> None:
    town = make_town(providers=2, auditors=2, policy=HELD_PAY)
    town.citizens["p0"].units = SKIPS
    record = start(town, unit_spec(chunks=4))
    finish(town, record, 600)
    cheat = town.citizens["p0"].identity.peer
    assert record.state == "settled"
    assert all(chunk.provider != cheat for chunk in record.chunks)
    escrow = closed(town, record)
    assert town.ledger.available("S", cheat) == 0 and escrow.slashed > 0
    attempts = [one for chunk in record.chunks for one in chunk.attempts if one.provider == cheat]
    assert town.ledger.standings[cheat].fraud == len(attempts) <= 2, "it has two slots, and is banned from the first on"


def test_cancelling_pays_what_is_held_and_refunds_the_rest(make_town: MakeTown) -> None:
    town = make_town(providers=2, policy=HELD_PAY)
    town.citizens["p1"].seconds = 60.0
    record = start(town, job_spec(6))
    town.run(lambda: any(chunk.state == "accepted" for chunk in record.chunks), 60)
    steward = town.citizens["steward"].steward
    town.command("steward", steward, lambda now: steward.cancel(JobId(record.job), now))
    finish(town, record, 400)
    assert record.state == "cancelled"
    accepted = [chunk for chunk in record.chunks if chunk.state == "accepted"]
    escrow = closed(town, record)
    assert escrow.paid + escrow.commission == sum(chunk.price for chunk in accepted) > 0


def test_a_steward_that_comes_back_while_pay_is_held(make_town: MakeTown) -> None:
    town = make_town(providers=2, policy=HELD_PAY)
    for citizen in town.citizens.values():
        citizen.seconds = 6.0
    record = start(town, job_spec(5))
    town.run(lambda: any(chunk.state == "accepted" for chunk in record.chunks), 60)
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([record], now))
    finish(town, record, 600)
    assert record.state == "settled"
    escrow = closed(town, record)
    assert escrow.paid + escrow.commission == sum(chunk.price for chunk in record.chunks)


def test_all_that_a_provider_lies_about_is_found_again_by_the_others(make_town: MakeTown) -> None:
    """Two liars of three, with shares of the price for evidence: the last one does all the work."""
    town = make_town(providers=3, auditors=2, policy=HELD_PAY)
    town.citizens["p0"].lies = town.citizens["p1"].lies = True
    record = start(town, job_spec(3, audit_ppm=1_000_000))
    finish(town, record, 900)
    assert record.state == "settled"
    honest = town.citizens["p2"].identity.peer
    assert {chunk.provider for chunk in record.chunks} == {honest}
    closed(town, record)


def test_a_job_whose_own_check_refuses_every_result_fails(make_town: MakeTown) -> None:
    """Two providers that it refuses are one too many; the third is not asked."""
    town = make_town(providers=3, auditors=2, policy=HELD_PAY)
    only(town, units=SKIPS)
    record = start(town, unit_spec(check=("python check.py",), samples=1))
    finish(town, record, 600)
    ends = [attempt.end for attempt in record.chunks[0].attempts]
    assert (record.state, ends) == ("failed", ["check_failed", "check_failed"])
    assert "check_failed on 2 provider(s)" in record.reason
    closed(town, record)


@pytest.mark.parametrize("deaf", [True, False])
def test_who_withheld_or_drifted_gets_no_more_of_the_job(make_town: MakeTown, deaf: bool) -> None:
    town = make_town(providers=2, auditors=2, policy=HELD_PAY)
    bad = town.citizens["p0"]
    if deaf:
        bad.deaf = (UnitsRequest,)
    else:
        bad.units = CHEAPER
    record = start(town, unit_spec("D1" if deaf else "D3", chunks=4, samples=4))
    finish(town, record, 900)
    assert record.state == "settled"
    assert bad.identity.peer in record.barred
    tries = [one.end for chunk in record.chunks for one in chunk.attempts if one.provider == bad.identity.peer]
    assert set(tries) == {"withheld" if deaf else "rejected"} and len(tries) <= 2
    closed(town, record)
