"""Relays are near, of different owners, replaced when they fail, and left alone when they cheat."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.overlay.relay_choice import (
    BAN_US,
    CHECK_US,
    PER_SUBNET_MAX,
    RELAYS,
    RETRY_MAX_US,
    RETRY_MIN_US,
    SUSPECT_US,
    Candidate,
    Plan,
    RelayChoice,
    subnet_key,
)
from protocol.units import HOUR, SECOND, Micros, PeerId

NOW = Micros(1_700_000_000 * SECOND)


def candidate(number: int, rtt: int, network: int | None = None) -> Candidate:
    second = number if network is None else network
    return Candidate(PeerId(bytes([number]) * 32), Micros(rtt), f"/ip4/11.{second}.0.{number}/tcp/4301")


def hold(choice: RelayChoice, candidates: list[Candidate], now: Micros = NOW) -> Plan:
    plan = choice.plan(candidates, now)
    where = {one.peer: one.address for one in candidates}
    for peer in plan.release:
        choice.released(peer)
    for peer in plan.reserve:
        choice.reserved(peer, where[peer], Micros(now + HOUR), now)
    return plan


def test_the_nearest_of_different_networks_are_chosen() -> None:
    choice = RelayChoice()
    everybody = [candidate(1, 10, 7), candidate(2, 20, 7), candidate(3, 30, 8), candidate(4, 40, 9), candidate(5, 5, 8)]
    plan = hold(choice, everybody)
    assert [peer[0] for peer in plan.reserve] == [5, 1, 4]
    assert hold(choice, everybody) == Plan()


def test_sybils_of_one_subnet_get_two_places_until_another_network_offers_one() -> None:
    choice = RelayChoice()
    sybils = [candidate(number, 1, 66) for number in range(1, 60)]
    assert len(hold(choice, sybils).reserve) == PER_SUBNET_MAX
    everybody = [*sybils, candidate(100, 900), candidate(101, 900)]
    assert [peer[0] for peer in hold(choice, everybody).reserve] == [100]
    hold(choice, everybody)
    hold(choice, everybody)
    networks = Counter(held.subnet for held in choice.held.values())
    assert len(choice.held) == RELAYS and set(networks.values()) == {1}


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 99), st.integers(1, 4)), max_size=30),
    st.lists(st.sampled_from(["ok", "failed", "misbehaved", "wait"]), max_size=30),
)
@settings(deadline=None)
def test_never_more_than_wanted_and_never_twice(raw: list[tuple[int, int, int]], story: list[str]) -> None:
    choice = RelayChoice()
    everybody = [candidate(*one) for one in raw]
    where = {one.peer: one.address for one in everybody}
    now = NOW
    for happened in story:
        plan = choice.plan(everybody, now)
        chosen = [*plan.reserve, *plan.refresh, *plan.check, *plan.release]
        assert len(chosen) == len(set(chosen))
        assert len(choice.held) - len(plan.release) + len(plan.reserve) <= RELAYS
        for peer in plan.release:
            choice.released(peer)
        for peer in [*plan.reserve, *plan.refresh]:
            match happened:
                case "failed":
                    choice.failed(peer, now)
                case "misbehaved":
                    choice.misbehaved(peer, now)
                case _:
                    choice.reserved(peer, where[peer], Micros(now + HOUR), now)
        crowd = Counter(held.subnet for held in choice.held.values())
        assert all(count <= PER_SUBNET_MAX for count in crowd.values())
        now = Micros(max(choice.next_at(now), now + SECOND) if happened == "wait" else now + SECOND)


def test_a_relay_that_fails_is_asked_again_later_and_later() -> None:
    choice = RelayChoice()
    one = [candidate(1, 10)]
    now, waits = NOW, []
    for _ in range(12):
        assert choice.plan(one, now).reserve
        choice.failed(one[0].peer, now)
        wait = next(us for us in range(0, RETRY_MAX_US + 1, SECOND) if choice.plan(one, Micros(now + us)).reserve)
        waits.append(wait)
        now = Micros(now + wait)
    assert waits[:4] == [RETRY_MIN_US, 2 * RETRY_MIN_US, 4 * RETRY_MIN_US, 8 * RETRY_MIN_US]
    assert waits[-1] == RETRY_MAX_US


def test_a_relay_that_cheats_is_left_alone_and_replaced() -> None:
    choice = RelayChoice(wanted=1)
    everybody = [candidate(1, 10), candidate(2, 20)]
    hold(choice, everybody)
    choice.misbehaved(everybody[0].peer, NOW)
    assert hold(choice, everybody).reserve == (everybody[1].peer,)
    choice.failed(everybody[1].peer, NOW)
    assert everybody[0].peer not in choice.plan(everybody, Micros(NOW + BAN_US - 1)).reserve
    assert everybody[0].peer in choice.plan(everybody, Micros(NOW + BAN_US)).reserve


def test_refresh_before_the_end_and_check_now_and_then() -> None:
    choice = RelayChoice()
    one = [candidate(1, 10)]
    hold(choice, one)
    assert choice.next_at(NOW) == NOW + RETRY_MIN_US
    assert choice.plan(one, Micros(NOW + CHECK_US)).check == (one[0].peer,)
    choice.checked(one[0].peer, Micros(NOW + CHECK_US))
    assert not choice.plan(one, Micros(NOW + CHECK_US + 1)).check
    assert not choice.plan(one, Micros(NOW + HOUR * 3 // 4 - 1)).refresh
    assert choice.plan(one, Micros(NOW + HOUR * 3 // 4)).refresh == (one[0].peer,)
    assert choice.plan(one, Micros(NOW + HOUR)).refresh == ()
    assert not choice.held


def test_a_suspicion_outlives_the_probe_that_was_under_way() -> None:
    choice = RelayChoice()
    one = [candidate(1, 10)]
    hold(choice, one)
    began = Micros(NOW + CHECK_US)
    assert choice.plan(one, began).check == (one[0].peer,)
    assert choice.suspected(one[0].peer, Micros(began + 1))
    choice.checked(one[0].peer, began)
    assert choice.plan(one, Micros(began + 2)).check == (one[0].peer,)
    choice.checked(one[0].peer, Micros(began + 2))
    assert not choice.plan(one, Micros(began + 3)).check


def test_suspicion_probes_at_once_but_not_all_the_time() -> None:
    choice = RelayChoice()
    one = [candidate(1, 10)]
    hold(choice, one)
    later = Micros(NOW + SUSPECT_US)
    assert not choice.suspected(one[0].peer, Micros(later - 1))
    assert choice.suspected(one[0].peer, later)
    assert choice.plan(one, later).check == (one[0].peer,)
    choice.checked(one[0].peer, later)
    assert not choice.suspected(one[0].peer, Micros(later + 1))
    assert not choice.suspected(candidate(9, 1).peer, later)


def test_a_public_peer_keeps_none() -> None:
    choice = RelayChoice()
    everybody = [candidate(number, number) for number in range(1, 5)]
    hold(choice, everybody)
    choice.wanted = 0
    assert len(hold(choice, everybody).release) == RELAYS
    assert not choice.held


def test_whoever_refused_is_not_asked_before_its_time() -> None:
    choice = RelayChoice()
    one = candidate(1, 10)
    busy = Candidate(one.peer, one.rtt, one.address, Micros(NOW + SECOND))
    assert not choice.plan([busy], NOW).reserve
    assert choice.plan([busy], Micros(NOW + SECOND)).reserve


def test_networks_of_addresses() -> None:
    assert subnet_key("/ip4/11.22.33.44/tcp/1") == "11.22.0.0/16"
    assert subnet_key("/ip6/2001:db8::1/tcp/1") == "2001:db8::/32"
    assert subnet_key("/dns4/relay.example/tcp/1") == "/dns4/relay.example/tcp/1"
