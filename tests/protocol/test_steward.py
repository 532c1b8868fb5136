"""Whole jobs among real machines: done, lost, lied about, cancelled, restarted. Money adds up in every one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol import operations, wire
from protocol.errors import Refused
from protocol.job_record import JobRecord
from protocol.jobspec import JobSpec
from protocol.steward import Steward
from protocol.units import CREDIT, SECOND, Credits, JobId, Micros, PeerId
from simulations.town import Town, job_spec

MakeTown = Callable[..., Town]


def start(town: Town, spec: JobSpec, key: str = "a") -> JobRecord:
    """Submit and confirm."""
    citizen = town.citizens["steward"]
    record, _, effects = citizen.steward.submit(spec, citizen.identity.peer, key, town.now)
    town.blobs[wire.digest(wire.encode(spec))] = wire.encode(spec)
    town.command("steward", citizen.steward, lambda now: effects)
    town.command("steward", citizen.steward, lambda now: citizen.steward.confirm(JobId(record.job), now))
    return record


def finish(town: Town, record: JobRecord, seconds: float = 300) -> None:
    """Until the job is over; then the ledger's invariants hold."""
    town.run(lambda: record.is_final, seconds)
    town.ledger.check()


def money(town: Town, record: JobRecord) -> tuple[int, int, int, int]:
    """(paid, commission, refunded, slashed) of the job's escrow."""
    escrow = town.ledger.escrows[record.escrow]
    return escrow.paid, escrow.commission, escrow.refunded, escrow.slashed


def test_a_job_is_done_checked_and_paid(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    record = start(town, job_spec(6, reduce=True))
    finish(town, record)
    assert record.state == "settled"
    assert all(chunk.is_done and chunk.outcome == "accept" for chunk in record.chunks)
    price = sum(chunk.price for chunk in record.chunks)
    fee = sum(operations.commission(chunk.price) for chunk in record.chunks)
    assert money(town, record) == (price - fee, fee, record.cap - price, 0)
    assert any(chunk.is_audited for chunk in record.chunks), "a newcomer's first result is always executed again"
    reduced = town.citizens[town.name(PeerId(record.chunks[-1].provider))].runs[-1]
    assert reduced.outputs == tuple(chunk.output for chunk in record.chunks[:-1])


def test_a_killed_provider_costs_seconds_and_nothing_else(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    for citizen in town.citizens.values():
        citizen.seconds = 20.0
    record = start(town, job_spec(3))
    town.run(lambda: any(chunk.state == "running" for chunk in record.chunks), 30)
    lost = next(chunk for chunk in record.chunks if chunk.state == "running")
    town.citizens[town.name(PeerId(lost.provider))].is_dead = True
    killed = town.now
    town.run(lambda: lost.epoch == 2 and lost.state == "running", 60)
    assert town.now - killed < 15 * SECOND
    finish(town, record)
    assert record.state == "settled" and lost.attempts[0].end == "dead"
    assert town.ledger.escrows[record.escrow].slashed == 0


def test_a_liar_is_caught_slashed_and_replaced(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    town.citizens["p0"].lies = True
    record = start(town, job_spec(6))
    finish(town, record)
    liar = town.citizens["p0"].identity.peer
    wrong = [attempt for chunk in record.chunks for attempt in chunk.attempts if attempt.end == "wrong"]
    assert wrong and all(attempt.provider == liar for attempt in wrong)
    assert record.state == "settled" and all(chunk.provider != liar for chunk in record.chunks)
    price = record.chunks[0].price
    assert money(town, record)[3] == len(wrong) * operations.slash(price, price, "wrong")
    assert town.ledger.standings[liar].wrong == len(wrong)


def test_a_command_that_fails_everywhere_ends_the_job_and_costs_nothing(make_town: MakeTown) -> None:
    town = make_town(providers=3)
    for citizen in town.citizens.values():
        citizen.fails = "exit"
    record = start(town, job_spec(2))
    finish(town, record)
    assert record.state == "failed" and "exit 1" in record.reason
    assert money(town, record) == (0, 0, record.cap, 0)


def test_cancelling_refunds_what_was_not_earned(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 60.0
    record = start(town, job_spec(4))
    town.run(lambda: any(chunk.state == "running" for chunk in record.chunks), 30)
    steward = town.citizens["steward"].steward
    town.command("steward", steward, lambda now: steward.cancel(JobId(record.job), now))
    finish(town, record)
    assert record.state == "cancelled"
    assert money(town, record)[2] == record.cap


def test_a_restarted_steward_goes_on(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 10.0
    record = start(town, job_spec(4))
    town.run(lambda: sum(chunk.state == "running" for chunk in record.chunks) >= 2, 30)
    old = town.citizens["steward"]
    stored = wire.decode(old.records[f"job/{record.job.hex()}"], wire.decoder(JobRecord), old.identity.peer, 1 << 30)
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([stored], now))
    town.run(lambda: stored.is_final, 300)
    town.ledger.check()
    assert stored.state == "settled" and all(chunk.is_done for chunk in stored.chunks)


def test_the_same_key_is_the_same_job_and_other_content_is_refused(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    steward = town.citizens["steward"].steward
    renter = town.citizens["steward"].identity.peer
    first, _, _ = steward.submit(job_spec(2), renter, "k", town.now)
    again, _, effects = steward.submit(job_spec(2), renter, "k", town.now)
    assert again is first and effects == []
    with pytest.raises(Refused) as refused:
        steward.submit(job_spec(3), renter, "k", town.now)
    assert refused.value.code == "key_reused"


def test_refusals_name_the_numbers(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    steward: Steward = town.citizens["steward"].steward
    renter = town.citizens["steward"].identity.peer
    with pytest.raises(Refused) as refused:
        steward.submit(msgspec.structs.replace(job_spec(2), runtime="torch"), renter, "a", town.now)
    assert refused.value.code == "no_capacity" and "torch" in refused.value.detail
    with pytest.raises(Refused) as refused:
        steward.submit(msgspec.structs.replace(job_spec(100), spend_cap=1000), renter, "b", town.now)
    assert refused.value.code == "budget_too_small" and refused.value.numbers["spend_cap"] == 1000
    rich = msgspec.structs.replace(job_spec(4096), estimate=Micros(3600 * SECOND), spend_cap=Credits(10**6 * CREDIT))
    record, _, _ = steward.submit(rich, renter, "c", town.now)
    with pytest.raises(Refused) as refused:
        steward.confirm(JobId(record.job), town.now)
    assert refused.value.code == "insufficient_funds"


def test_an_unconfirmed_quote_expires(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    citizen = town.citizens["steward"]
    record, _, effects = citizen.steward.submit(job_spec(1), citizen.identity.peer, "a", town.now)
    town.command("steward", citizen.steward, lambda now: effects)
    town.run(lambda: record.is_final, 400)
    assert record.state == "expired"
    with pytest.raises(Refused):
        citizen.steward.confirm(JobId(record.job), town.now)
