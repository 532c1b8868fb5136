"""Transfers: rates are max–min fair, links are never overfull, every byte is counted, stalled ones go on or fail."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.bulk import UNLIMITED, Bulk, fill
from simulations.queue import Queue
from simulations.scenario import NS

SURVIVES = 10 * NS
PATHS = st.lists(st.lists(st.integers(0, 5), unique=True, max_size=4).map(tuple), min_size=1, max_size=12)
CAPACITY = st.lists(st.integers(1_000, 1_000_000), min_size=6, max_size=6)


class Yard:
    """Four peers, what ended when, what was sent."""

    def __init__(self, capacity: list[int]) -> None:
        self.queue = Queue()
        self.limits: dict[tuple[int, ...], int] = {}
        self.ended: dict[str, int] = {}
        self.sent: dict[int, int] = {}
        self.bulk = Bulk(self.queue, capacity, lambda way: self.limits.get(way, UNLIMITED), SURVIVES, self.moved)

    def moved(self, source: int, size: int) -> None:
        self.sent[source] = self.sent.get(source, 0) + size

    def start(self, name: str, way: tuple[int, ...], size: int, lag: int = 0) -> None:
        def done(at: int) -> None:
            assert name not in self.ended, "done twice"
            assert at in (-1, self.queue.now)
            self.ended[name] = at

        self.bulk.start(way, size, lag, self.queue.now, done)


# ── rates ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(PATHS, CAPACITY, st.lists(st.integers(100, 2_000_000), min_size=12, max_size=12))
def test_rates_are_max_min_fair(paths: list[tuple[int, ...]], capacity: list[int], limits: list[int]) -> None:
    limits = limits[: len(paths)]
    rates = fill(paths, limits, capacity)
    load = [sum(rate for rate, path in zip(rates, paths, strict=True) if link in path) for link in range(6)]
    assert all(used <= full for used, full in zip(load, capacity, strict=True)), "a link over capacity"
    for rate, limit, path in zip(rates, limits, paths, strict=True):
        assert 0 < rate <= limit
        # It has a bottleneck: its own limit, or a full link on which nobody gets more. Rounding leaves a bit per flow.
        slack = len(paths) + 1
        full = [link for link in path if load[link] > capacity[link] - slack]
        most = [max(other for other, way in zip(rates, paths, strict=True) if link in way) for link in full]
        assert rate == limit or any(rate >= other - slack for other in most)


@given(PATHS, CAPACITY)
def test_rates_agree_with_filling_in_fractions(paths: list[tuple[int, ...]], capacity: list[int]) -> None:
    """Against the textbook: raise all at once, freeze those on the link that is full, go on."""
    paths = [path or (0,) for path in paths]
    exact: list[Fraction] = [Fraction(-1)] * len(paths)
    left = [Fraction(full) for full in capacity]
    while any(rate < 0 for rate in exact):
        open_flows = [index for index, rate in enumerate(exact) if rate < 0]
        shares = {
            link: left[link] / count
            for link in range(6)
            if (count := sum(link in paths[index] for index in open_flows))
        }
        link = min(shares, key=lambda name: (shares[name], name))
        share = shares[link]
        for index in open_flows:
            if link in paths[index]:
                exact[index] = share
                for crossed in paths[index]:
                    left[crossed] -= share
    rates = fill(paths, [UNLIMITED] * len(paths), capacity)
    assert all(abs(rate - true) <= len(paths) + 1 for rate, true in zip(rates, exact, strict=True))


def test_without_links_a_flow_gets_its_limit() -> None:
    assert fill([(), ()], [UNLIMITED, 5], []) == [UNLIMITED, 5]


def test_a_crowd_on_a_narrow_link_ends_all_the_same() -> None:
    assert fill([(0,)] * 3, [UNLIMITED] * 3, [2]) == [1, 1, 1]


# ── transfers ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_one_flow_takes_size_by_rate_and_the_delay() -> None:
    yard = Yard([8_000_000, 0, 0, 4_000_000])
    yard.start("one", (0, 1), 1_000_000, lag=50)
    yard.queue.run(60 * NS)
    assert yard.ended == {"one": 2 * NS + 50}
    assert yard.sent == {0: 1_000_000}


def test_two_flows_share_and_the_second_speeds_up() -> None:
    yard = Yard([8_000_000, 0, 0, 0, 0, 0])
    yard.start("short", (0, 1), 1_000_000)
    yard.start("long", (0, 2), 2_000_000)
    yard.queue.run(60 * NS)
    assert yard.ended == {"short": 2 * NS, "long": 3 * NS}


def test_a_late_flow_slows_down_the_first() -> None:
    yard = Yard([8_000_000, 0, 0, 0])
    yard.start("first", (0, 1), 1_000_000)
    yard.queue.at(NS // 2, lambda _: yard.start("second", (0, 1), 1_000_000), None)
    yard.queue.run(60 * NS)
    assert yard.ended == {"first": 3 * NS // 2, "second": 2 * NS}


def test_a_relay_gives_its_links() -> None:
    yard = Yard([0, 0, 8_000_000, 0, 0, 0])
    yard.start("over", (0, 1, 2), 1_000_000)
    yard.start("own", (1, 0), 1_000_000)
    yard.queue.run(60 * NS)
    assert yard.ended == {"over": 2 * NS, "own": 2 * NS}


def test_unlimited_flows_take_no_time() -> None:
    yard = Yard([0, 0, 0, 0])
    yard.start("far", (0, 1), 10**9, lag=7)
    yard.start("empty", (0, 1), 0, lag=3)
    yard.queue.run(NS)
    assert yard.ended == {"far": 8 + 7, "empty": 3}


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 200_000), st.integers(0, 2 * NS)),
        min_size=1,
        max_size=15,
    ),
    st.lists(st.sampled_from([0, 1_000_000, 3_000_001, 8_000_000]), min_size=8, max_size=8),
)
def test_every_byte_arrives_and_no_link_carries_more_than_it_can(
    flows: list[tuple[int, int, int, int]], capacity: list[int]
) -> None:
    yard = Yard(capacity)

    def check(_: None) -> None:
        load = [0] * 8
        for peers, rate in yard.bulk.rates():
            assert rate > 0
            load[2 * peers[0]] += rate
            load[2 * peers[1] + 1] += rate
        assert all(not full or used <= full for used, full in zip(load, capacity, strict=True))

    sent: dict[int, int] = {}
    for index, (source, target, size, at) in enumerate(flows):
        sent[source] = sent.get(source, 0) + size

        def begin(what: tuple[str, int, int, int]) -> None:
            yard.start(what[0], (what[1], what[2]), what[3])
            check(None)

        yard.queue.at(at, begin, (str(index), source, target, size))
    for step in range(60):
        yard.queue.at(step * NS // 10, check, None)
    yard.queue.run(120 * NS)
    assert len(yard.bulk) == 0
    assert yard.sent == sent
    for index, (source, target, size, at) in enumerate(flows):
        tightest = min([rate for rate in (capacity[2 * source], capacity[2 * target + 1]) if rate] or [UNLIMITED])
        assert yard.ended[str(index)] >= at + size * 8 * NS // tightest
    for source in range(4):  # A link that works all the time from the first to the last byte could be no faster.
        mine = [(at, size, yard.ended[str(index)]) for index, (home, _, size, at) in enumerate(flows) if home == source]
        if mine and capacity[2 * source]:
            span = max(end for _, _, end in mine) - min(at for at, _, _ in mine)
            assert sum(size for _, size, _ in mine) * 8 * NS <= capacity[2 * source] * span


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("heals", "ends"), [(5 * NS, 6 * NS), (20 * NS, -1)])
def test_a_stalled_flow_goes_on_or_fails(heals: int, ends: int) -> None:
    yard = Yard([8_000_000, 0, 0, 0, 0, 0])
    yard.start("cut", (0, 1), 1_000_000)
    yard.start("other", (0, 2), 1_000_000)

    def change(limit: int) -> None:
        yard.limits[0, 1] = limit
        yard.bulk.review(yard.queue.now)

    yard.queue.at(NS, change, 0)
    yard.queue.at(heals, change, UNLIMITED)
    yard.queue.run(60 * NS)
    # Half of each is through after 1 s; the other then has the link for itself.
    assert yard.ended == {"other": 3 * NS // 2, "cut": ends if ends < 0 else heals + NS // 2}
    assert yard.sent == {0: 2_000_000 if ends > 0 else 1_500_000}
    assert len(yard.bulk) == 0


def test_a_flow_that_starts_in_a_cut_waits() -> None:
    yard = Yard([8_000_000, 0, 0, 0])
    yard.limits[0, 1] = 0
    yard.start("cut", (0, 1), 1_000_000)
    yard.queue.run(3 * NS)
    assert yard.bulk.rates() == [((0, 1), 0)]
    yard.limits.clear()
    yard.bulk.review(3 * NS)
    yard.queue.run(30 * NS)
    assert yard.ended == {"cut": 4 * NS}


def test_a_second_stall_gets_its_own_time() -> None:
    yard = Yard([8_000_000, 0, 0, 0])
    yard.start("twice", (0, 1), 1_000_000)

    def change(limit: int) -> None:
        yard.limits[0, 1] = limit
        yard.bulk.review(yard.queue.now)

    for at, limit in ((0, 0), (8 * NS, 1_000_000), (9 * NS, 0), (17 * NS, UNLIMITED)):
        yard.queue.at(at, change, limit)
    yard.queue.run(60 * NS)
    assert yard.ended == {"twice": 17 * NS + NS * 7 // 8}


def test_the_dead_take_their_flows_with_them() -> None:
    yard = Yard([6_000_000, 0, 0, 0, 0, 0])
    yard.start("dead", (0, 1), 1_000_000, lag=5)
    yard.start("relayed", (0, 1, 2), 1_000_000, lag=5)
    yard.start("lives", (0, 2), 1_000_000)
    yard.queue.at(NS, lambda _: yard.bulk.drop(1, yard.queue.now), None)
    yard.queue.run(60 * NS)
    assert yard.ended == {"dead": -1, "relayed": -1, "lives": 2 * NS}
    assert yard.sent == {0: 1_500_000}
