"""Peers are placed as the topology's shares say, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.chance import stream
from simulations.places import Place, delays, place, regions
from simulations.scenario import Pipe, Topology
from simulations.tables.latency import ETHEREUM_2025

PIPES = {
    "super": Pipe(share=0.2, up=1_000_000_000, down=1_000_000_000),
    "home": Pipe(share=0.8, up=20_000_000, down=50_000_000),
}


def places(topology: Topology, n: int = 4_000, public: int = 0, seed: int = 1) -> list[Place]:
    return place(topology, n, [peer < public for peer in range(n)], stream(seed, "places"))


def test_regions_follow_the_weights_of_the_table() -> None:
    counted = Counter(spot.region for spot in places(Topology()))
    whole = sum(ETHEREUM_2025.weights)
    for region, weight in enumerate(ETHEREUM_2025.weights):
        assert abs(counted[region] / 4_000 - weight / whole) < 0.02


def test_classes_follow_their_shares() -> None:
    found = places(Topology(bandwidth=PIPES, nat={"public": 0.3, "cone": 0.5, "symmetric": 0.2}))
    assert abs(sum(spot.up == 1_000_000_000 for spot in found) / 4_000 - 0.2) < 0.03
    for kind, share in (("public", 0.3), ("cone", 0.5), ("symmetric", 0.2)):
        assert abs(sum(spot.nat == kind for spot in found) / 4_000 - share) < 0.03
    assert {(spot.up, spot.down) for spot in found} == {(1_000_000_000, 1_000_000_000), (20_000_000, 50_000_000)}


def test_some_are_always_public() -> None:
    found = places(Topology(nat={"symmetric": 1.0}), n=50, public=20)
    assert [spot.nat for spot in found] == ["public"] * 20 + ["symmetric"] * 30


def test_without_classes_everybody_is_public_and_unlimited() -> None:
    assert {(spot.nat, spot.up, spot.down) for spot in places(Topology(), n=50)} == {("public", 0, 0)}


def test_a_uniform_world_is_one_region() -> None:
    topology = Topology(latency="uniform", delay=7)
    assert {spot.region for spot in places(topology, n=20)} == {0}
    assert len(regions(topology)) == 1
    assert delays(topology) == [[7]]


def test_delays_are_nanoseconds_of_the_table() -> None:
    assert delays(Topology())[1][4] == 70_000_000


@given(st.integers(0, 1_000))
def test_last_miles_move_nobody(seed: int) -> None:
    bare, wide = places(Topology(), 30, seed=seed), places(Topology(bandwidth=PIPES, nat={"cone": 1.0}), 30, seed=seed)
    assert [spot.region for spot in bare] == [spot.region for spot in wide]
    assert bare == places(Topology(), 30, seed=seed)
    assert places(Topology(), 10, seed=seed) == bare[:10]


@pytest.mark.parametrize(
    ("topology", "word"),
    [
        (Topology(latency="mars-2040"), "mars-2040"),
        (Topology(latency="uniform", delay=-1), "topology.delay"),
        (Topology(nat={"public": 0.5, "cone": 0.6}), "topology.nat sum to 1.1"),
        (Topology(nat={"public": 1.2, "cone": -0.2}), "topology.nat.public"),
        (Topology(bandwidth={"dsl": Pipe(share=0.5, up=10_000, down=10_000)}), "topology.bandwidth sum to 0.5"),
        (Topology(bandwidth={"dsl": Pipe(share=float("nan"), up=10_000, down=10_000)}), "topology.bandwidth.dsl"),
        (Topology(bandwidth={"dsl": Pipe(share=1.0, up=0, down=10_000)}), "topology.bandwidth.dsl.up"),
        (Topology(bandwidth={"dsl": Pipe(share=1.0, up=10_000, down=-4)}), "topology.bandwidth.dsl.down"),
    ],
)
def test_bad_topologies_are_refused_with_their_key(topology: Topology, word: str) -> None:
    with pytest.raises(Refused) as refused:
        delays(topology)
        places(topology, n=3)
    assert word in refused.value.detail
    assert refused.value.fix
