"""When messages arrive: delays, order, last miles, loss, detours, partitions, clogs; transfers from end to end."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError, Refused
from simulations.chance import stream
from simulations.network import SWEEP, Network
from simulations.packets import SURVIVES
from simulations.places import Place
from simulations.queue import Queue
from simulations.scenario import NS, Topology

MS = 1_000_000
FLAT = Topology(latency="uniform", delay=50 * MS, jitter=0.0)
HOME = Place(0, "public", 0, 0)


def world(topology: Topology = FLAT, places: list[Place] | None = None, n: int = 4, seed: int = 1) -> Network:
    return Network(places or [HOME] * n, topology, stream(seed, "network"), Queue())


def queue_of(network: Network) -> Queue:
    return network._queue


# ── delays ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_uniform_world_has_one_delay() -> None:
    network = world()
    assert network.arrival(0, 1, 100, 7) == 7 + 50 * MS
    assert network.arrival(2, 2, 100, 7) == 7
    assert network.regions == ("everywhere",)


def test_a_table_gives_the_delay_of_the_regions_in_that_direction() -> None:
    africa, america = Place(6, "public", 0, 0), Place(7, "public", 0, 0)
    network = world(Topology(jitter=0.0), [africa, america])
    assert network.arrival(0, 1, 100, 0) == 190 * MS
    assert network.arrival(1, 0, 100, 0) == 195 * MS
    assert network.regions[6] == "south_africa"


def test_jitter_has_the_mean_and_the_deviation_asked_for() -> None:
    network = world(Topology(latency="uniform", delay=100 * MS, jitter=0.25), n=2)
    found = [network.arrival(0, 1, 100, turn * 10 * NS) - turn * 10 * NS for turn in range(20_000)]
    assert abs(statistics.fmean(found) / (100 * MS) - 1.0) < 0.01
    assert abs(statistics.pstdev(found) / (25 * MS) - 1.0) < 0.03
    assert min(found) >= 74 * MS


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40 * MS), st.integers(1, 9_000)), max_size=60))
def test_streams_keep_their_order(sends: list[tuple[int, int, int]]) -> None:
    places = [Place(0, "public", 0, 0), Place(0, "public", 10_000_000, 5_000_000), Place(0, "public", 0, 1_000_000)]
    network = world(Topology(latency="uniform", jitter=1.0, loss=0.2), places)
    now, latest = 0, [0, 0]
    for source, gap, size in sends:
        now += gap
        queue_of(network).run(now)
        arrives = network.arrival(source, 2, size, now)
        if arrives >= 0:
            assert arrives >= max(now, latest[source])
            latest[source] = arrives


def test_streams_are_forgotten_when_nothing_is_under_way() -> None:
    network = world(n=50)
    for now in range(0, 20 * SWEEP, SWEEP // 100):
        queue_of(network).run(now)
        network.arrival(now // 7 % 50, now // 11 % 50, 100, now)
        assert len(network._last) <= 200
    assert network._last


def test_looking_ahead_ends_nothing_and_forgets_nothing() -> None:
    """A replay asks for an arrival in the future; what is under way before it keeps its order."""
    network = world()
    network.cut([2], NS, False, 0)
    network.clog([0], 10 * NS, NS, 0)
    late = network.arrival(0, 1, 100, 0)
    network.arrival(1, 3, 100, 20 * NS)
    assert not network.can_reach(2, 3, 1)
    queue_of(network).run(NS)
    assert network.arrival(0, 1, 100, NS) == late


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def run(seed: int) -> list[int]:
        network = world(Topology(jitter=0.3, loss=0.1), n=10, seed=seed)
        return [network.arrival(turn % 10, turn * 7 % 10, turn, turn * MS) for turn in range(500)]

    assert run(1) == run(1) != run(2)


def test_bytes_are_counted_by_source() -> None:
    network = world()
    network.arrival(0, 1, 300, 0)
    network.arrival(0, 2, 200, 0)
    network.bulk(1, 2, 5_000, 0, lambda _: None)
    queue_of(network).run(NS)
    assert network.bytes_sent == [500, 5_000, 0, 0]


# ── last miles ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_uplink_is_a_fifo() -> None:
    network = world(places=[Place(0, "public", 8_000_000, 0), HOME, HOME])
    assert [network.arrival(0, 1 + turn % 2, 1_000, 0) for turn in range(4)] == [
        50 * MS + MS * (turn + 1) for turn in range(4)
    ]


def test_the_downlink_is_a_fifo_over_all_senders() -> None:
    network = world(places=[HOME, HOME, Place(0, "public", 0, 8_000_000)])
    assert [network.arrival(turn % 2, 2, 1_000, 0) for turn in range(4)] == [
        50 * MS + MS * (turn + 1) for turn in range(4)
    ]


def test_what_comes_from_far_does_not_hold_up_the_neighbours() -> None:
    far, near = Place(0, "public", 0, 0), Place(1, "public", 0, 8_000_000)
    network = world(Topology(jitter=0.0), [far, near, Place(1, "public", 0, 0)])
    assert network.arrival(0, 1, 1_000, 0) == 165 * MS + MS
    assert network.arrival(2, 1, 1_000, 0) == 2 * MS + MS


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 20_000), st.integers(0, 3 * MS)), min_size=1, max_size=80))
def test_a_downlink_carries_no_more_than_it_can(sends: list[tuple[int, int, int]]) -> None:
    places = [Place(region, "public", 0, 0) for region in range(8)] + [Place(1, "public", 0, 8_000_000)]
    network = world(Topology(jitter=0.5), places)
    busy: list[tuple[int, int]] = []
    streams: dict[int, int] = {}
    now = 0
    for source, size, gap in sends:
        now += gap
        queue_of(network).run(now)
        ends = network.arrival(source, 8, size, now)
        if ends > streams.get(source, 0):  # One that waits for its stream's order was through before.
            busy.append((ends - size * 1_000, ends))
        streams[source] = ends
    busy.sort()
    assert all(first[1] <= second[0] for first, second in pairwise(busy))


# ── loss ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_lost_packet_costs_a_timeout_alone_and_a_round_trip_in_company() -> None:
    network = world(Topology(latency="uniform", delay=80 * MS, jitter=0.0, loss=0.1), n=2)
    alone = [network.arrival(0, 1, 100, turn * 20 * NS) - turn * 20 * NS for turn in range(5_000)]
    late = [delay for delay in alone if delay != 80 * MS]
    assert abs(len(late) / 5_000 - 0.1) < 0.02
    assert set(late) <= {80 * MS + 320 * MS * (2**tries - 1) for tries in range(1, 6)}
    many = [network.arrival(0, 1, 14_000, turn * 20 * NS) - turn * 20 * NS for turn in range(5_000, 10_000)]
    assert abs(sum(delay != 80 * MS for delay in many) / 5_000 - (1 - 0.9**10)) < 0.03
    assert 80 * MS + 160 * MS in many


def test_a_short_way_waits_for_the_least_timeout() -> None:
    network = world(Topology(latency="uniform", delay=MS, jitter=0.0, loss=0.5), n=2)
    found = {network.arrival(0, 1, 100, turn * 20 * NS) - turn * 20 * NS for turn in range(200)}
    assert {MS, 201 * MS, 601 * MS} <= found


def test_when_everything_is_lost_connections_end() -> None:
    network = world()
    network.worsen(1.0, NS, 0)
    assert network.arrival(0, 1, 100, 0) == -1
    assert not network.can_reach(0, 1, 0)
    queue_of(network).run(NS)
    assert network.arrival(0, 1, 100, NS) == NS + 50 * MS
    assert network.can_reach(0, 1, NS)


def test_losses_add_up_and_end_one_by_one() -> None:
    network = world(Topology(latency="uniform", jitter=0.0, loss=0.1), n=2)
    network.worsen(0.5, 2 * NS, 0)
    network.worsen(0.2, NS, 0)
    assert network._losses.share == pytest.approx(1 - 0.9 * 0.5 * 0.8)
    queue_of(network).run(NS)
    assert network._losses.share == pytest.approx(1 - 0.9 * 0.5)
    queue_of(network).run(2 * NS)
    assert network._losses.share == 0.1


# ── detours ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_relay_costs_its_detour() -> None:
    places = [Place(1, "public", 0, 0), Place(4, "symmetric", 0, 0), Place(0, "symmetric", 0, 0)]
    network = world(Topology(jitter=0.0), places)
    assert network.arrival(1, 2, 100, 0) == (70 + 165) * MS
    assert network.arrival(2, 1, 100, 0) == (165 + 70) * MS
    assert network.arrival(1, 0, 100, 0) == 70 * MS


def test_punched_holes_are_direct() -> None:
    places = [Place(1, "public", 0, 0), Place(4, "cone", 0, 0), Place(0, "cone", 0, 0)]
    assert world(Topology(jitter=0.0), places).arrival(1, 2, 100, 0) == 150 * MS


def test_without_relays_the_hidden_never_meet() -> None:
    places = [HOME, Place(0, "cone", 0, 0), Place(0, "cone", 0, 0)]
    network = world(Topology(latency="uniform", relay=False), places)
    ended: list[int] = []
    network.bulk(1, 2, 100, 0, ended.append)
    assert not ended
    queue_of(network).run(NS)
    assert ended == [-1]
    assert network.arrival(1, 2, 100, 0) == -1
    assert not network.can_reach(1, 2, 0)
    assert network.can_reach(1, 0, 0) and network.can_reach(0, 1, 0)


# ── partitions and clogs ─────────────────────────────────────────────────────────────────────────────────────────────
def test_a_short_partition_delays_and_a_long_one_loses() -> None:
    network = world()
    network.cut([0, 1], 3 * NS, False, 0)
    assert network.arrival(0, 1, 100, 0) == 50 * MS
    assert network.arrival(2, 0, 100, 0) == 3_050 * MS  # Sent again after 0.2, 0.6, 1.4 and 3.0 s.
    assert network.arrival(2, 1, 100, 2 * NS) == 3_450 * MS  # After 0.2, 0.6 and 1.4 s.
    queue_of(network).run(3 * NS)
    network.cut([0, 1], 3 * NS + SURVIVES + 1, False, 3 * NS)
    assert network.arrival(0, 2, 100, 4 * NS) == -1
    assert network.arrival(0, 2, 100, 3 * NS + SURVIVES) == -1
    assert not network.can_reach(0, 2, 4 * NS)
    queue_of(network).run(3 * NS + SURVIVES + 1)
    assert network.can_reach(0, 2, 3 * NS + SURVIVES + 1)
    assert network.arrival(3, 1, 100, 20 * NS) == 20 * NS + 50 * MS


@given(st.integers(1, SURVIVES), st.integers(0, SURVIVES))
def test_what_waits_for_a_partition_comes_after_its_end(last: int, sent: int) -> None:
    network = world()
    network.cut([0], last, False, 0)
    now = sent % last
    arrives = network.arrival(0, 1, 100, now)
    assert last + 50 * MS <= arrives <= now + SURVIVES + 50 * MS


def test_a_one_way_partition_stops_what_the_first_side_sends() -> None:
    network = world()
    network.cut([0], 60 * NS, True, 0)
    assert network.arrival(0, 1, 100, 0) == -1
    assert network.arrival(1, 0, 100, 0) == 50 * MS
    assert (network.can_reach(0, 1, 0), network.can_reach(1, 0, 0)) == (False, True)


def test_a_partition_from_the_relay_is_one_from_the_peer() -> None:
    places = [HOME, Place(0, "symmetric", 0, 0), Place(0, "symmetric", 0, 0)]
    network = world(places=places)
    network.cut([0], 60 * NS, False, 0)
    assert network.arrival(1, 2, 100, 0) == -1
    assert not network.can_reach(2, 1, 0)


def test_partitions_heal_early() -> None:
    network = world()
    network.heal(network.cut([0], 60 * NS, False, 0), 5)
    assert network.arrival(0, 1, 100, 5) == 5 + 50 * MS


def test_clogs_add_up_and_end() -> None:
    network = world()
    network.clog([0], 3 * MS, NS, 0)
    network.clog([0, 1], 4 * MS, 2 * NS, 0)
    assert network.arrival(0, 1, 100, 0) == (50 + 3 + 4 + 4) * MS
    assert network.arrival(2, 3, 100, 0) == 50 * MS
    queue_of(network).run(NS)
    assert network.arrival(1, 0, 100, NS) == NS + (50 + 8) * MS
    queue_of(network).run(2 * NS)
    assert network.arrival(0, 1, 100, 2 * NS) == 2 * NS + 50 * MS


def test_impossible_faults_are_refused() -> None:
    network = world()
    with pytest.raises(LocalError):
        network.clog([0], -1, NS, 0)
    with pytest.raises(LocalError):
        network.worsen(1.5, NS, 0)
    with pytest.raises(LocalError):
        network.cut([4], NS, False, 0)


@pytest.mark.parametrize(
    ("topology", "word"),
    [(Topology(jitter=-0.1), "jitter"), (Topology(jitter=float("nan")), "jitter"), (Topology(loss=1.2), "loss")],
)
def test_impossible_topologies_are_refused(topology: Topology, word: str) -> None:
    with pytest.raises(Refused, match=f"topology.{word}"):
        world(topology)


# ── transfers ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_transfer_stalls_in_a_partition_and_goes_on() -> None:
    network = world(places=[Place(0, "public", 8_000_000, 0), HOME])
    ended: list[int] = []
    network.bulk(0, 1, 2_000_000, 0, ended.append)
    queue_of(network).run(NS)
    network.cut([1], 4 * NS, False, NS)
    queue_of(network).run(60 * NS)
    assert ended == [5 * NS + 50 * MS]


def test_a_transfer_fails_in_a_long_partition() -> None:
    network = world()
    network.cut([1], 60 * NS, True, 0)
    ended: list[int] = []
    network.bulk(1, 0, 10**6, 0, lambda at: ended.append(at + queue_of(network).now))
    queue_of(network).run(60 * NS)
    assert ended == [SURVIVES - 1]
    assert network.bytes_sent[1] == 0


def test_loss_slows_transfers_by_the_square_root_law() -> None:
    network = world(Topology(latency="uniform", delay=50 * MS, loss=0.015))
    ended: list[int] = []
    network.bulk(0, 1, 1_400_000, 0, ended.append)
    queue_of(network).run(60 * NS)
    assert ended[0] == pytest.approx(10 * NS + 50 * MS, rel=1e-6)  # 10 packets per round trip of 100 ms; 1,000 packets.


def test_the_dead_send_no_more() -> None:
    network = world(places=[Place(0, "public", 8_000_000, 0), HOME, HOME])
    ended: list[int] = []
    network.bulk(0, 1, 1_000_000, 0, ended.append)
    queue_of(network).run(NS // 2)
    network.drop(0, NS // 2)
    queue_of(network).run(NS)
    assert ended == [-1]
    assert network.bytes_sent[0] == 500_000
