"""Jobs in a network with a policy: accepted chunks that a ruling overturns, escrows that cannot pay what is left."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol.held import Held, held_id
from protocol.job_record import JobRecord
from protocol.messages import CancelChunk, Message
from protocol.operations import Appeal, Ruling
from protocol.shortfall import PATIENCE
from protocol.units import CREDIT, Digest, PeerId
from tests.protocol.test_steward import finish, start
from tests.protocol.town import HELD_PAY, START, Town, job_spec

MakeTown = Callable[..., Town]
BOND = 40 * CREDIT
DIGEST = b"e" * 32


def held(town: Town, record: JobRecord, chunk: int, epoch: int = 1) -> Held | None:
    return town.ledger.held.get(held_id(record.escrow, chunk, epoch))


def dispute(town: Town, record: JobRecord, chunk: int, appellant: str, finding: str, epoch: int = 1) -> None:
    """Appeal, a ruling that overturns, and the window after it."""
    peer = town.citizens[appellant].identity.peer
    town.order(Appeal(record.escrow, chunk, epoch, peer, BOND, bytes(32), 1), appellant)
    town.run(lambda: (item := held(town, record, chunk, epoch)) is not None and item.is_appealed)
    panel = (town.citizens["validator"].identity.peer,)
    ruling = Ruling(record.escrow, chunk, epoch, 1, "overturned", finding, panel, DIGEST, "hash_differs")  # type: ignore[arg-type]
    town.order(ruling, "validator")
    town.run(lambda: (item := held(town, record, chunk, epoch)) is not None and item.round == 1)


def provider_of(town: Town, record: JobRecord, chunk: int) -> str:
    return town.name(PeerId(record.chunks[chunk].provider))


def is_final(town: Town, record: JobRecord, chunk: int, epoch: int = 1) -> bool:
    item = held(town, record, chunk, epoch)
    return item is not None and bool(item.end)


@pytest.fixture
def slow_job(make_town: MakeTown) -> tuple[Town, JobRecord]:
    """Two chunks: one accepted after a second, the other takes minutes."""
    town = make_town(providers=3, policy=HELD_PAY)
    for name in ("p1", "p2"):
        town.citizens[name].seconds = 150.0
    record = start(town, job_spec(4))
    town.run(lambda: sum(chunk.state == "accepted" for chunk in record.chunks) == 1)
    return town, record


@pytest.mark.parametrize("finding", ["wrong", "fraud", "rejected"])
def test_an_overturned_chunk_is_leased_again(slow_job: tuple[Town, JobRecord], finding: str) -> None:
    town, record = slow_job
    chunk = next(chunk for chunk in record.chunks if chunk.state == "accepted")
    cheat = provider_of(town, record, chunk.index)
    dispute(town, record, chunk.index, "steward", finding)
    assert chunk.state == "accepted", "until it is final the ledger leases it to nobody"
    town.run(lambda: is_final(town, record, chunk.index))
    town.run(lambda: chunk.epoch == 2 and chunk.is_leased, 600)
    assert chunk.attempts[0].end == finding
    assert not chunk.is_fetched or chunk.output
    assert town.citizens[cheat].identity.peer in record.barred
    finish(town, record, 900)
    assert record.state == "settled"
    assert [item.end for item in chunk.attempts] == [finding, "accepted"]
    town.run(lambda: town.ledger.escrows[record.escrow].is_closed, 100)
    escrow = town.ledger.escrows[record.escrow]
    assert escrow.paid + escrow.commission + escrow.evidence + escrow.refunded == record.cap
    ends = {(item.chunk, item.epoch): item.end for item in town.ledger.held.values()}
    final = [item for item in record.chunks if ends[item.index, item.epoch] == "paid"]
    assert escrow.paid + escrow.commission == sum(item.price for item in final)
    assert finding == "fraud" or len(final) == 4, "a cheat's other results are forfeited"


def test_the_renter_hears_of_it(slow_job: tuple[Town, JobRecord]) -> None:
    town, record = slow_job
    chunk = next(chunk for chunk in record.chunks if chunk.state == "accepted")
    events = town.citizens["steward"].events
    dispute(town, record, chunk.index, "steward", "rejected")
    town.run(lambda: is_final(town, record, chunk.index))
    before = len(events)
    town.run(lambda: chunk.state != "accepted", 5)
    told = [emit.fields for emit in events[before:] if emit.name == "chunk" and emit.fields["chunk"] == chunk.index]
    assert told and told[0]["state"] in ("waiting", "granted")
    assert (chunk.outcome, chunk.code) == ("rejected", "hash_differs")


def test_a_job_that_is_over_stays_over_and_says_what_was_overturned(make_town: MakeTown) -> None:
    town = make_town(providers=3, policy=HELD_PAY)
    record = start(town, job_spec(2))
    finish(town, record)
    assert record.state == "settled" and town.ledger.escrows[record.escrow].is_closing
    dispute(town, record, 0, "steward", "fraud")
    town.run(lambda: town.ledger.escrows[record.escrow].is_closed)
    town.run(lambda: record.chunks[0].state == "failed", 5)
    assert (record.state, record.chunks[0].outcome) == ("settled", "fraud")
    assert record.chunks[0].attempts[-1].end == "fraud"
    assert record.reason == "chunk 0 was accepted and is overturned: fraud (hash_differs)"
    assert record.chunks[1].state in ("accepted", "failed")
    assert town.citizens["steward"].records[f"job/{record.job.hex()}"] == msgspec.msgpack.encode(record)


def test_a_restarted_steward_still_hears_of_it(make_town: MakeTown) -> None:
    town = make_town(providers=3, policy=HELD_PAY)
    record = start(town, job_spec(1))
    finish(town, record)
    fresh = town.replace_steward()
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([record], now))
    dispute(town, record, 0, "steward", "rejected")
    town.run(lambda: record.chunks[0].state == "failed")
    assert record.state == "settled" and record.chunks[0].outcome == "rejected"


def _kept(sent: list[CancelChunk], message: Message) -> Message:
    sent += [message] if isinstance(message, CancelChunk) else []
    return message


def test_a_reduce_step_does_not_go_on_with_what_was_overturned(make_town: MakeTown) -> None:
    town = make_town(providers=3, policy=HELD_PAY)
    record = start(town, job_spec(2, reduce=True))
    town.run(lambda: all(chunk.state == "accepted" for chunk in record.chunks[:2]))
    for citizen in town.citizens.values():
        citizen.seconds = 100.0
    sent: list[CancelChunk] = []
    town.citizens["steward"].bends = lambda message: _kept(sent, message)
    dispute(town, record, 0, "steward", "rejected")
    town.run(lambda: record.chunks[0].epoch == 2 and record.chunks[0].is_leased, 200)
    assert [message.chunk for message in sent] == [2]
    finish(town, record, 900)
    assert record.state == "settled"
    assert record.chunks[2].attempts[0].end != "accepted" and record.chunks[2].attempts[-1].end == "accepted"


def test_a_job_that_cannot_pay_its_next_attempt_fails_with_the_numbers(make_town: MakeTown) -> None:
    """The judges were mistaken, the innocent provider has what the escrow had, its output is nowhere any more, and the
    chunk is still to be done."""
    town = make_town(providers=1, policy=HELD_PAY)
    town.citizens["p0"].lies = True
    record = start(town, job_spec(1))
    town.run(lambda: (item := held(town, record, 0)) is not None and item.finding == "wrong")
    item = held(town, record, 0)
    assert item is not None
    del town.blobs[Digest(item.output)]
    dispute(town, record, 0, "p0", "accept")
    town.run(lambda: is_final(town, record, 0))
    assert record.is_open, "while something is held it waits"
    price = record.chunks[0].price
    assert town.ledger.available("E", record.escrow) < price
    began = town.now
    finish(town, record)
    assert town.now - began >= PATIENCE > 0 < START
    left, cap = (record.cap - price) / CREDIT, record.cap / CREDIT
    assert record.state == "failed"
    assert record.reason == (
        f"the escrow has {left:g} of its {cap:g} credits left, and chunk 0 costs {price / CREDIT:g} at least: "
        "raise spend_cap"
    )
