"""Auditors that failed lately: drawn last, for a while, where others could do it."""

from __future__ import annotations

from protocol.messages import AuditRequest
from protocol.units import SECOND, Micros, PeerId
from simulations.units import EXACT
from tests.verifier.court import ME, SECOND_AUDITOR
from tests.verifier.unit_court import AUDITORS, UNITS, UnitCourt, unit_job
from verifier.bench import Caution
from verifier.no_shows import REMEMBERED, REMEMBERED_MAX, NoShows

NOW = Micros(10**12)
ALL = unit_job(samples=UNITS)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def test_it_is_remembered_for_a_while_and_can_be_made_good() -> None:
    shows = NoShows()
    shows.note([peer(1), peer(2)], NOW)
    shows.forgive(peer(2))
    assert shows.lately(NOW) == {peer(1)} == shows.lately(Micros(NOW + REMEMBERED - 1))
    assert shows.lately(Micros(NOW + REMEMBERED)) == frozenset() and len(shows) == 0


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    shows = NoShows()
    for number in range(REMEMBERED_MAX + 10):
        shows.note([peer(number)], Micros(NOW + number))
    assert len(shows) == REMEMBERED_MAX
    assert peer(9) not in shows.lately(NOW) and peer(10) in shows.lately(NOW)


def silent_then_heard(court: UnitCourt) -> PeerId:
    """The first auditor says nothing, the second does its work. Who was silent."""
    court.begin(1).unfold()
    silent = PeerId(court.requests()[0][0].peer)
    state = court.case.state
    court.wait(int(state.until) - int(court.now))  # type: ignore[union-attr]
    auditor = court.replay(EXACT)
    court.show()
    court.uncover(auditor)
    assert court.found() == ("accept", "units_equal", True)
    return silent


def first_of(court: UnitCourt, beacon: int) -> PeerId:
    """Whom the same judge asks first about another claim."""
    court.judge.cases.clear()
    court.escrow.chunks.clear()
    court.beacon = beacon.to_bytes(32, "big")
    court.order()
    return PeerId(court.unfold().requests()[0][0].peer)


def test_who_was_silent_where_another_was_not_is_drawn_last_for_a_while() -> None:
    court = UnitCourt(ALL, auditors=AUDITORS)
    silent = silent_then_heard(court)
    beacons = range(2, 42)
    assert silent not in {first_of(court, beacon) for beacon in beacons}
    court.wait(REMEMBERED + SECOND)
    assert silent in {first_of(court, beacon) for beacon in beacons}


def test_where_nobody_could_do_it_nobody_is_remembered() -> None:
    """Else a job that takes all honest auditors too long would leave the next audits to whoever is in on it."""
    court = UnitCourt(ALL, auditors=AUDITORS).begin(1).unfold()
    while court.waits_for == "Auditing":
        state = court.case.state
        court.wait(int(state.until) - int(court.now))  # type: ignore[union-attr]
    court.show()
    assert court.found() in (("accept", "audit_failed", False), ("accept", "audit_late", False))
    court.now = Micros(court.now - 1)
    assert {first_of(court, beacon) for beacon in range(2, 60)} == {auditor.peer for auditor in AUDITORS}


def test_of_another_network_rather_than_of_the_silent_ones() -> None:
    """Somebody who has nothing to do with the silent one is asked before its neighbour."""
    third = AUDITORS[2].peer
    networks = {ME.peer: frozenset({"a"}), SECOND_AUDITOR.peer: frozenset({"a"}), third: frozenset({"b"})}
    caution = Caution(networks=lambda who: networks.get(who, frozenset()))
    for beacon in range(1, 20):
        court = UnitCourt(ALL, auditors=AUDITORS, caution=caution).begin(beacon).unfold()
        asked = court.requests()
        if len(asked) > 1 or asked[0][0].peer == third:
            continue
        state = court.case.state
        court.wait(int(state.until) - int(court.now))  # type: ignore[union-attr]
        assert [peer for peer, _ in court.sent(AuditRequest)] == [third]
