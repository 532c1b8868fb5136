"""Coordinates against the simulator's tables of real latencies, with noise and with liars."""

from __future__ import annotations

from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.place import SPAN_MAX, UNKNOWN_PPM, Coordinate, distance, estimate
from protocol.overlay.vivaldi import NEIGHBOURS_MAX, RTT_MAX, STEP_MAX, WARM_SAMPLES, LatencyMap
from protocol.units import PPM, Micros, PeerId
from simulations.tables.latency import TABLES, LatencyTable

N = 60
FRIENDS = 16
KNOWN = Coordinate(0, 0, 1_000, 100_000)


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


class Globe:
    """Peers in the regions of a table, each with a last mile, and true round trips between them."""

    def __init__(self, table: LatencyTable, seed: int) -> None:
        self.dice = Random(seed)
        self.regions = self.dice.choices(range(len(table.regions)), table.weights, k=N)
        self.miles = [self.dice.randrange(500, 8_000) for _ in range(N)]
        self.table = table
        self.maps = [LatencyMap(Random(seed * N + number)) for number in range(N)]

    def rtt(self, a: int, b: int) -> int:
        there, back = self.table.delays[self.regions[a]], self.table.delays[self.regions[b]]
        return (there[self.regions[b]] + back[self.regions[a]]) * 1_000 + self.miles[a] + self.miles[b]

    def run(self, rounds: int, liars: int) -> float:
        """Rounds of one sample per peer, a tenth of jitter, one sample in thirty doubled or worse; the median error."""
        dice = self.dice
        friends = [dice.sample([other for other in range(N) if other != one], FRIENDS) for one in range(N)]
        for _ in range(rounds):
            for one in range(N):
                other = dice.choice(friends[one])
                rtt = (
                    self.rtt(one, other) * dice.uniform(1.0, 1.1) * (dice.uniform(2, 5) if dice.random() < 0.03 else 1)
                )
                said = self.maps[other].coordinate
                if other < liars:
                    said = Coordinate(dice.randrange(-(10**6), 10**6), dice.randrange(-(10**6), 10**6), 0, 0)
                    rtt += dice.randrange(500_000)
                self.maps[one].sample(peer(other), Micros(int(rtt)), said)
        errors = []
        for a in range(liars, N):
            for b in range(a + 1, N):
                guess = estimate(self.maps[a].coordinate, self.maps[b].coordinate)
                assert guess is not None
                errors.append(abs(guess - self.rtt(a, b)) / self.rtt(a, b))
        return median(errors)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: str(table.name))
@pytest.mark.parametrize("liars", [0, N // 10])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_map_is_right_within_a_fifth(table: LatencyTable, liars: int, seed: int) -> None:
    assert Globe(table, seed).run(rounds=150, liars=liars) < 0.20


def test_a_measured_neighbour_is_known_better_than_by_coordinates() -> None:
    one = LatencyMap(Random(1))
    assert one.estimate(peer(1), KNOWN) is None
    for rtt in (30_000, 900_000, 31_000, 29_000, 30_500):
        one.sample(peer(1), Micros(rtt), KNOWN)
    assert one.rtt(peer(1)) == 30_500
    assert one.estimate(peer(1), KNOWN) == 30_500
    assert one.nearest([peer(2), peer(1)]) == [peer(1), peer(2)]
    one.forget(peer(1))
    assert one.rtt(peer(1)) is None


def test_a_coordinate_says_nothing_before_a_few_samples() -> None:
    one = LatencyMap(Random(1))
    for count in range(WARM_SAMPLES):
        assert not one.coordinate.is_known
        assert one.coordinate.error_ppm == UNKNOWN_PPM
        one.sample(peer(count), Micros(20_000), KNOWN)
    assert one.coordinate.is_known


coordinates = st.builds(
    Coordinate,
    st.integers(-SPAN_MAX, SPAN_MAX),
    st.integers(-SPAN_MAX, SPAN_MAX),
    st.integers(0, SPAN_MAX),
    st.integers(0, UNKNOWN_PPM),
)


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(-5, 3 * RTT_MAX), coordinates), max_size=100))
def test_no_sample_moves_us_far_or_out_of_the_world(samples: list[tuple[int, int, Coordinate]]) -> None:
    one = LatencyMap(Random(1))
    for number, rtt, said in samples:
        before = one.coordinate
        one.sample(peer(number), Micros(rtt), said)
        now = one.coordinate
        assert abs(now.x - before.x) <= STEP_MAX + 1
        assert abs(now.y - before.y) <= STEP_MAX + 1
        assert max(abs(now.x), abs(now.y), now.height) <= SPAN_MAX
        assert 0 < now.error_ppm <= PPM
    assert len(one.nearest([peer(number) for number in range(81)])) == 81
    assert sum(one.rtt(peer(number)) is not None for number in range(81)) <= NEIGHBOURS_MAX


@given(coordinates, coordinates)
def test_distances_are_symmetric_and_know_what_they_do_not_know(a: Coordinate, b: Coordinate) -> None:
    assert distance(a, b) == distance(b, a) >= a.height + b.height
    assert (estimate(a, b) is None) == (UNKNOWN_PPM in (a.error_ppm, b.error_ppm))
