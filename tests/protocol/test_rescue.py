"""Results that judges refused by mistake: the steward takes them instead of leasing the chunk again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from protocol.effects import Compute, Effect, Fetch
from protocol.escrow_state import ChunkLease
from protocol.job_record import Attempt, JobRecord
from protocol.ledger import Ledger
from protocol.operations import Appeal, Ruling, commission
from protocol.overturned import RESCUE_TIME, Rescue
from protocol.units import CREDIT, Digest, Micros, PeerId
from tests.protocol.test_overturned_chunks import dispute, held
from tests.protocol.test_steward import finish, start
from tests.protocol.town import HELD_PAY, Town, job_spec

MakeTown = Callable[..., Town]
OUTPUT = Digest(b"o" * 32)
JUDGES = (PeerId(b"v" * 32),)


@pytest.fixture
def refused(make_town: MakeTown) -> tuple[Town, JobRecord]:
    """One chunk, one provider, one judge who does not believe it; nobody else wants the chunk."""
    town = make_town(providers=1, policy=HELD_PAY)
    town.citizens["p0"].lies = True
    record = start(town, job_spec(1))
    town.run(lambda: (item := held(town, record, 0)) is not None and item.finding == "wrong")
    town.run(lambda: record.chunks[0].state == "waiting" and bool(record.barred))
    return town, record


def test_a_result_that_was_good_after_all_is_taken(refused: tuple[Town, JobRecord]) -> None:
    town, record = refused
    provider, chunk = town.citizens["p0"].identity.peer, record.chunks[0]
    dispute(town, record, 0, "p0", "accept")
    finish(town, record)
    assert (record.state, chunk.state, chunk.epoch, chunk.outcome) == ("settled", "accepted", 1, "accept")
    item = held(town, record, 0)
    assert item is not None and (chunk.output, chunk.is_fetched) == (item.output, True)
    assert record.barred == [] and [one.end for one in chunk.attempts] == ["accepted"]
    town.run(lambda: town.ledger.escrows[record.escrow].is_closed)
    escrow = town.ledger.escrows[record.escrow]
    assert (escrow.paid, escrow.commission) == (chunk.price - commission(chunk.price), commission(chunk.price))
    assert (town.ledger.standings[provider].wrong, town.ledger.standings[provider].accepted) == (0, 1)


def test_one_that_is_nowhere_to_be_had_is_leased_again(refused: tuple[Town, JobRecord]) -> None:
    town, record = refused
    item = held(town, record, 0)
    assert item is not None
    del town.blobs[Digest(item.output)]
    dispute(town, record, 0, "p0", "accept")
    record.barred.clear()
    town.citizens["p0"].lies = False
    town.run(lambda: record.chunks[0].epoch == 2, 60)
    finish(town, record)
    assert record.chunks[0].output != item.output


def test_a_second_panel_may_take_it_away_again(refused: tuple[Town, JobRecord]) -> None:
    town, record = refused
    dispute(town, record, 0, "p0", "accept")
    town.run(lambda: record.chunks[0].state == "accepted")
    lease = town.ledger.escrows[record.escrow].chunks[0]
    assert (lease.state, lease.outcome, lease.code) == ("free", "accept", "hash_differs")
    steward, judge = (town.citizens[name].identity.peer for name in ("steward", "validator"))
    place = (record.escrow, 0, 1)
    town.order(Appeal(*place, steward, 40 * CREDIT, bytes(32), 2), "steward")
    town.run(lambda: (item := held(town, record, 0)) is not None and item.is_appealed)
    town.order(Ruling(*place, 2, "overturned", "wrong", (judge,), bytes(32), "unit_differs"), "validator")
    town.run(lambda: record.chunks[0].state == "failed")
    assert (lease.outcome, lease.code, record.chunks[0].outcome) == ("wrong", "unit_differs", "wrong")
    item = held(town, record, 0)
    assert item is not None and item.end == "slashed"


def test_a_chunk_that_somebody_has_by_now_stays_with_them(make_town: MakeTown) -> None:
    town = make_town(providers=2, policy=HELD_PAY)
    town.citizens["p0"].lies, town.citizens["p1"].seconds = True, 6.0
    liar = town.citizens["p0"].identity.peer
    record = start(town, job_spec(4))
    town.run(lambda: any(chunk.epoch == 2 and chunk.is_leased for chunk in record.chunks))
    chunk = next(chunk for chunk in record.chunks if chunk.epoch == 2)
    assert chunk.attempts[0].provider == liar
    dispute(town, record, chunk.index, "p0", "accept")
    finish(town, record, 400)
    assert [one.end for one in chunk.attempts] == ["wrong", "accepted"]
    assert chunk.provider == town.citizens["p1"].identity.peer


# ── alone ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Case:
    """One waiting chunk, as the steward and as the ledger have it."""

    def __init__(self, record: JobRecord) -> None:
        self.record, self.chunk = record, record.chunks[0]
        self.known = ChunkLease(0, 1, provider=b"p" * 32, price=500, outcome="accept", output=OUTPUT)
        self.withheld: set[int] = set()
        self.rescue = Rescue(record, self.withheld)
        escrow = SimpleNamespace(chunks={0: self.known})
        self.ledger = cast("Ledger", SimpleNamespace(escrows={record.escrow: escrow}))

    def look(self, now: int = 0) -> list[Effect]:
        return self.rescue.look(self.chunk, self.known, JUDGES, Micros(now))


@pytest.fixture
def case(refused: tuple[Town, JobRecord]) -> Case:
    return Case(refused[1])


def test_it_is_asked_for_once_and_nobody_is_given_the_chunk(case: Case) -> None:
    asked = case.look()
    assert isinstance(asked[0], Compute) and isinstance(asked[0].work, Fetch)
    assert (asked[0].work.digest, asked[0].work.sources) == (OUTPUT, (PeerId(b"p" * 32), *JUDGES))
    assert case.withheld == {0} and case.look(1) == []
    assert case.rescue.fetched(OUTPUT, True, case.ledger) == [case.chunk]
    assert (case.chunk.provider, case.chunk.price, case.withheld) == (b"p" * 32, 500, set())


def test_what_does_not_come_is_given_up_for_good(case: Case) -> None:
    case.look()
    assert case.rescue.fetched(Digest(b"x" * 32), True, case.ledger) == [] and case.withheld == {0}
    case.look(RESCUE_TIME + 1)
    assert case.withheld == set() and case.look(RESCUE_TIME + 2) == []
    assert case.rescue.fetched(OUTPUT, True, case.ledger) == []


@pytest.mark.parametrize("change", ["wrong", "state", "epoch", "closed"])
def test_what_has_changed_meanwhile_is_not_taken(case: Case, change: str) -> None:
    case.look()
    match change:
        case "wrong":
            case.known.outcome = "wrong"
        case "state":
            case.chunk.state = "granted"
        case "epoch":
            case.known.epoch = 2
        case _:
            case.record.state = "settling"
    assert case.rescue.fetched(OUTPUT, True, case.ledger) == []
    assert case.chunk.output != OUTPUT and case.withheld == set()


def test_who_gave_another_bad_result_stays_barred(case: Case) -> None:
    case.record.barred.append(case.known.provider)
    case.chunk.attempts += [Attempt(1, case.known.provider, Micros(0), end="fraud"), Attempt(2, b"q" * 32, Micros(0))]
    case.look()
    case.rescue.fetched(OUTPUT, True, case.ledger)
    assert case.chunk.state == "accepted" and case.known.provider in case.record.barred
