"""storage/placement.py: failure domains and limits."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import PPM, SECOND, Micros, PeerId
from storage import placement
from storage.erasure import ANCHOR, ROLLING, Code
from storage.placement import Candidate, Where, place


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def town(count: int, area: int = 1, region: int = 1, newcomers: int = 0) -> list[Candidate]:
    """`area` peers share an area, `region` peers a region."""
    return [
        Candidate(
            peer(number),
            Where(f"d{number}", f"a{number // area}"),
            f"r{number // region}",
            is_newcomer=number < newcomers,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["/ip4/8.8.4.4/udp/1/quic-v1"], Where("8.8.4.0/24", "8.8.0.0/16")),
        (["/ip4/192.168.0.2/tcp/1", "/ip4/1.2.3.4/tcp/1"], Where("1.2.3.0/24", "1.2.0.0/16")),
        (["/ip6/2a01:4f8:1:2::3/tcp/1"], Where("2a01:4f8:1::/48", "2a01:4f8::/32")),
        (["/ip4/127.0.0.1/tcp/1"], None),
        (["/ip4/8.8.4.4/tcp/1/p2p/x/p2p-circuit"], None),
        (["/dns4/example.org/tcp/1", "", "/ip4/no/tcp/1", "/ip4"], None),
        ([], None),
    ],
)
def test_failure_domains(addresses: list[str], expected: Where | None) -> None:
    assert placement.where(peer(1), addresses) == (expected or Where(peer(1).hex(), peer(1).hex()))


@given(st.integers(0, 60), st.integers(0, 2**32))
def test_one_shard_per_domain_and_no_more_than_n(count: int, seed: int) -> None:
    made = place(ROLLING, town(count), Random(seed))
    assert len(made.holders) == min(count, ROLLING.n)
    assert len(set(made.holders)) == len(made.holders)
    assert not set(made.holders) & set(made.spares)
    assert len(made.holders) + len(made.spares) == count


def test_no_neighbourhood_and_no_region_can_take_a_pack_along() -> None:
    many = town(200, area=20, region=20)
    made = place(ROLLING, many, Random(1))
    where = {one.peer: one for one in many}
    for held in (
        Counter(where[one].where.area for one in made.holders),
        Counter(where[one].region for one in made.holders),
    ):
        assert max(held.values()) <= (ROLLING.n - ROLLING.k) // 2
    assert made.given_way == ()


def test_limits_give_way_in_order_where_nobody_else_is() -> None:
    assert place(ROLLING, town(14, region=14), Random(1)).given_way == ("region",)
    assert place(ROLLING, town(14, area=14), Random(1)).given_way == ("area",)
    assert place(ROLLING, town(14, newcomers=14), Random(1)).given_way == ("newcomers",)
    assert len(place(ROLLING, town(14, area=14, region=14, newcomers=14), Random(1)).holders) == 14


def test_newcomers_get_a_tenth() -> None:
    made = place(ANCHOR, town(100, newcomers=80), Random(3))
    assert sum(int.from_bytes(one, "big") < 80 for one in made.holders) == 2


def test_a_whole_data_centre_counts_once() -> None:
    same = [Candidate(peer(number), Where("d", "a")) for number in range(30)]
    made = place(ROLLING, same, Random(1))
    assert len(made.holders) == 1
    assert not made.spares


def test_earlier_holders_are_preferred_and_taken_ones_count() -> None:
    many = town(50)
    made = place(ROLLING, many, Random(5), first=[peer(7), peer(9)])
    assert {peer(7), peer(9)} <= set(made.holders)
    rest = place(ROLLING, many[10:], Random(5), taken=many[:10])
    assert len(rest.holders) == 4


def test_the_slow_the_absent_and_the_distant_are_chosen_less() -> None:
    good = [
        Candidate(peer(number), Where(f"d{number}", f"a{number}"), rtt=Micros(SECOND // 50)) for number in range(20)
    ]
    bad = [
        Candidate(
            peer(number),
            Where(f"d{number}", f"a{number}"),
            rtt=Micros(SECOND),
            uptime_ppm=PPM * 7 // 10,
            uplink=100_000,
        )
        for number in range(20, 40)
    ]
    made = [place(Code(4, 8), good + bad, Random(seed)) for seed in range(40)]
    chosen = Counter(int.from_bytes(holder, "big") >= 20 for one in made for holder in one.holders)
    assert chosen[True] < chosen[False] // 10
