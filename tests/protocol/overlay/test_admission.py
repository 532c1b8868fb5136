"""The door under crowds: bounds hold, counts come back to zero, and one address keeps nobody else out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.admission import (
    ADDRESSES_MAX,
    ARRIVALS_BURST,
    ARRIVALS_PER_SECOND,
    GREETED_MAX,
    GREETED_PER_ADDRESS_MAX,
    INBOUND_MAX,
    LOCAL_FACTOR,
    PER_ADDRESS_MAX,
    PER_SUBNET_MAX,
    Admission,
    Greeted,
    Turned,
    Visit,
)
from protocol.units import SECOND, Micros

NOW = Micros(1_000 * SECOND)
STEPS = st.lists(
    st.tuples(st.sampled_from(["arrive", "stay", "leave"]), st.integers(0, 9), st.integers(0, 3)), max_size=200
)


def address(block: int, host: int) -> str:
    return f"11.0.{block}.{host + 1}"


def greeted(door: Admission, source: str, now: Micros = NOW) -> Greeted:
    found = door.arrive(source, now)
    assert isinstance(found, Greeted), found
    return found


@given(STEPS)
def test_counts_follow_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    door = Admission()
    greeting: list[Visit] = []
    standing: list[Visit] = []
    now = NOW
    for name, block, host in steps:
        now = Micros(now + SECOND)
        if name == "arrive":
            found = door.arrive(address(block, host), now)
            if isinstance(found, Greeted):
                greeting.append(found.visit)
                if found.instead_of is not None:
                    greeting.remove(found.instead_of)
        elif name == "stay" and greeting:
            visit = greeting.pop(block % len(greeting))
            if door.stay(visit):
                standing.append(visit)
        elif name == "leave" and standing:
            door.leave(standing.pop(block % len(standing)))
        assert (door.greeted, door.standing) == (len(greeting), len(standing))
    for visit in [*greeting, *standing]:
        door.leave(visit)
        door.leave(visit)
    assert (door.greeted, door.standing) == (0, 0)
    assert not door._greeted_by
    assert not door._standing_by


def test_one_address_keeps_nobody_out() -> None:
    door = Admission()
    for _ in range(10_000):
        door.arrive("11.0.0.1", NOW)
    assert door.greeted == GREETED_PER_ADDRESS_MAX
    assert door.stay(greeted(door, "11.0.0.2").visit)


def test_a_full_door_cuts_the_largest_crowd_first() -> None:
    door = Admission()
    crowd = [greeted(door, "11.0.0.1") for _ in range(GREETED_PER_ADDRESS_MAX)]
    for number in range(GREETED_MAX - GREETED_PER_ADDRESS_MAX):
        greeted(door, f"12.{number}.0.1")
    late = greeted(door, "13.0.0.1")
    assert late.instead_of == crowd[0].visit
    assert not door.stay(crowd[0].visit)
    assert door.stay(crowd[1].visit)
    assert door.greeted == GREETED_MAX - 1


def test_arrivals_have_a_rate() -> None:
    door = Admission()

    def let_in(now: Micros) -> int:
        count = 0
        for _ in range(ARRIVALS_BURST * 2):
            found = door.arrive("11.0.0.1", now)
            if isinstance(found, Greeted):
                count += 1
                door.leave(found.visit)
            else:
                assert found == Turned("too_fast")
        return count

    assert let_in(NOW) == ARRIVALS_BURST
    assert let_in(Micros(NOW + 2 * SECOND)) == 2 * ARRIVALS_PER_SECOND


def test_addresses_and_subnets_are_bounded_but_not_local_ones() -> None:
    def standing(sources: list[str]) -> int:
        door = Admission()
        now = NOW
        for source in sources:
            now = Micros(now + SECOND)
            found = door.arrive(source, now)
            if isinstance(found, Greeted):
                assert door.stay(found.visit)
        return door.standing

    assert standing(["11.0.0.1"] * 200) == PER_ADDRESS_MAX
    assert standing([f"11.0.0.{n % 250}" for n in range(500)]) == PER_SUBNET_MAX
    assert standing([f"2001:470:1::{n:x}" for n in range(500)]) == PER_SUBNET_MAX
    assert standing(["127.0.0.1"] * 200) == 200
    assert standing([f"12.{n // 250}.{n % 250}.1" for n in range(500)]) == INBOUND_MAX


def test_a_full_house_makes_room_for_somebody_from_elsewhere() -> None:
    door = Admission()
    now = NOW
    crowd: list[Visit] = []
    for number in range(INBOUND_MAX):
        now = Micros(now + SECOND)
        crowd.append(greeted(door, f"12.{number % 6}.0.{number // 6 + 1}", now).visit)
        assert door.stay(crowd[-1])
    late = greeted(door, "13.0.0.1", Micros(now + SECOND))
    assert late.instead_of in crowd
    assert door.stay(late.visit)
    assert door.standing == INBOUND_MAX
    assert door.arrive("12.0.0.99", Micros(now + 2 * SECOND)) in (Turned("full"), Turned("too_many_connections"))


def test_memory_of_rates_is_bounded() -> None:
    door = Admission()
    for number in range(ADDRESSES_MAX + 100):
        found = door.arrive(f"12.{number // 65_536}.{number // 256 % 256}.{number % 256}", NOW)
        assert isinstance(found, Greeted)
        door.leave(found.visit)
    assert len(door._rates) == ADDRESSES_MAX


def test_local_addresses_may_open_more() -> None:
    door = Admission()
    count = 0
    for _ in range(ARRIVALS_BURST * LOCAL_FACTOR * 2):
        found = door.arrive("127.0.0.1", NOW)
        if isinstance(found, Greeted):
            count += 1
            door.leave(found.visit)
    assert count == ARRIVALS_BURST * LOCAL_FACTOR
