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
from protocol.units import CREDIT, DAY, SECOND, Credits, JobId, Micros, PeerId
from tests.protocol.town import Town, job_spec

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


def extend(town: Town, record: JobRecord, spend_cap: int) -> None:
    """As the control socket does it."""
    steward = town.citizens["steward"].steward
    town.command("steward", steward, lambda now: steward.extend(JobId(record.job), spend_cap, None, now))


def test_a_running_job_gets_more_money_and_time(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 20.0
    record = start(town, job_spec(4))
    town.run(lambda: record.state == "running", 30)
    cap, deadline = record.cap, record.deadline
    extend(town, record, cap + CREDIT)
    assert record.cap == cap, "the ledger decides"
    steward = town.citizens["steward"].steward
    with pytest.raises(Refused, match="on its way") as refused:
        steward.extend(JobId(record.job), cap + 2 * CREDIT, None, town.now)
    assert refused.value.code == "not_extendable"
    town.run(lambda: record.cap > cap, 10)
    assert (record.cap, record.deadline, record.extend_op) == (cap + CREDIT, deadline + DAY, b"")
    escrow = town.ledger.escrows[record.escrow]
    assert (escrow.cap, escrow.deadline) == (record.cap, record.deadline)
    stored = town.citizens["steward"].records[f"job/{record.job.hex()}"]
    assert wire.decode(stored, wire.decoder(JobRecord), record_owner(town), 1 << 30).cap == record.cap
    events = [event.fields for event in town.citizens["steward"].events if event.name == "extended"]
    assert events == [{"job": record.job.hex(), "cap": record.cap}]
    finish(town, record)
    price = sum(chunk.price for chunk in record.chunks)
    assert record.state == "settled" and money(town, record)[2] == cap + CREDIT - price


def record_owner(town: Town) -> PeerId:
    """The steward rents for itself in these tests."""
    return town.citizens["steward"].identity.peer


def test_refused_extensions_name_the_numbers_and_change_nothing(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    record = start(town, job_spec(2))
    steward, job = town.citizens["steward"].steward, JobId(record.job)
    with pytest.raises(Refused) as refused:
        steward.extend(job, 10**9, None, town.now)
    assert refused.value.code == "not_extendable" and "funding" in refused.value.detail
    town.run(lambda: record.state == "running", 30)
    for spend_cap in (record.cap, record.cap - 1, None):
        with pytest.raises(Refused) as refused:
            steward.extend(job, spend_cap, None, town.now)
        assert refused.value.code == "not_extendable" and refused.value.numbers["cap"] == record.cap
    with pytest.raises(Refused, match="timeout is part of the specification"):
        steward.extend(job, record.cap + 1, 10**6, town.now)
    have = town.ledger.available("U", record_owner(town))
    with pytest.raises(Refused) as refused:
        steward.extend(job, record.cap + have + 1, None, town.now)
    assert refused.value.code == "insufficient_funds"
    assert refused.value.numbers == {"needed": have + 1, "available": have}
    finish(town, record)
    with pytest.raises(Refused, match="the job is settled") as refused:
        steward.extend(job, record.cap + 1, None, town.now)
    assert refused.value.code == "not_extendable"


def test_an_extension_survives_a_restart_and_is_counted_once(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 20.0
    record = start(town, job_spec(4))
    town.run(lambda: record.state == "running", 30)
    cap = record.cap
    town.citizens["validator"].is_dead = True
    extend(town, record, cap + 5)
    town.run(lambda: town.now > record.confirmed + 4 * SECOND, 10)
    old = town.citizens["steward"]
    stored = wire.decode(old.records[f"job/{record.job.hex()}"], wire.decoder(JobRecord), old.identity.peer, 1 << 30)
    assert (stored.cap, stored.extend_cap) == (cap, cap + 5)
    fresh = town.replace_steward()
    town.citizens["validator"].is_dead = False
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([stored], now))
    town.run(lambda: stored.cap > cap and not stored.extend_op, 30)
    assert (stored.cap, town.ledger.escrows[record.escrow].cap) == (cap + 5, cap + 5)
    town.run(lambda: stored.is_final, 300)
    town.ledger.check()
    assert stored.state == "settled" and stored.cap == cap + 5


def test_the_last_verdict_settles_the_job_at_once(make_town: MakeTown) -> None:
    town = make_town(providers=1)
    record = start(town, job_spec(1))
    town.run(lambda: record.chunks[0].state == "accepted", 60)
    accepted = town.now
    finish(town, record)
    assert town.now - accepted < SECOND // 4, "no tick has to come by"


def test_work_that_ended_unseen_leaves_no_provider_with_less_than_no_lease(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 3.0
    record = start(town, job_spec(8))
    old = town.citizens["steward"]
    town.run(lambda: sum(chunk.state == "running" for chunk in record.chunks) == 4, 30)
    stored = wire.decode(old.records[f"job/{record.job.hex()}"], wire.decoder(JobRecord), old.identity.peer, 1 << 30)
    old.is_dead = True
    town.run(lambda: all(lease.state == "paid" for lease in town.ledger.escrows[record.escrow].chunks.values()), 60)
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([stored], now))
    town.run(lambda: stored.is_final, 300)
    bidders = fresh.steward.jobs[JobId(record.job)].leasing.bidders.values()
    assert stored.state == "settled" and all(bidder.leased == 0 for bidder in bidders)


def test_a_lease_that_came_and_went_unseen_does_not_stop_the_job(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    for citizen in town.citizens.values():
        citizen.seconds = 3.0
    record = start(town, job_spec(1))
    old = town.citizens["steward"]
    town.run(lambda: record.state == "queued", 30)
    key = f"job/{record.job.hex()}"
    stored = wire.decode(old.records[key], wire.decoder(JobRecord), old.identity.peer, 1 << 30)
    town.run(lambda: record.chunks[0].state == "running", 30)
    holder = town.citizens[town.name(PeerId(record.chunks[0].provider))]
    old.is_dead = True
    town.command(town.name(holder.identity.peer), holder.provider, lambda now: holder.provider.drain(False, now))
    town.run(lambda: town.ledger.escrows[record.escrow].chunks[0].state == "free", 30)
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([stored], now))
    town.run(lambda: stored.is_final, 300)
    assert stored.state == "settled" and stored.chunks[0].epoch == 2


def test_lines_that_overtake_the_receipt_of_their_lease_are_kept(make_town: MakeTown) -> None:
    town = make_town(providers=2)
    town.slow["validator", "steward"] = 3 * SECOND
    record = start(town, job_spec(4))
    finish(town, record)
    stored = [key for key in town.citizens["steward"].records if key.startswith("log/")]
    assert record.state == "settled"
    assert record.log_lines == len(stored) == 4


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
        steward.submit(msgspec.structs.replace(job_spec(2), runtime="engines"), renter, "a", town.now)
    assert refused.value.code == "no_capacity" and "engines" in refused.value.detail
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
