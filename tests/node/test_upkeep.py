"""Whom to dial next: as many as are missing, and one of each further network while few are covered."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from node.upkeep import Wanted, newcomers
from protocol.overlay.subnets import subnets_of
from protocol.units import PeerId

LOOP = "/ip4/127.0.0.1/tcp/1"


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def public(network: int) -> str:
    return f"/ip4/11.22.{network}.1/tcp/1"


def test_as_many_as_are_missing() -> None:
    idle = {peer(number): (LOOP,) for number in range(20)}
    assert len(newcomers(Wanted(8), [], idle, {}, Random(1))) == 8
    assert len(newcomers(Wanted(8), [peer(n) for n in range(20, 26)], idle, {}, Random(1))) == 2
    assert newcomers(Wanted(8), [peer(n) for n in range(20, 29)], idle, {}, Random(1)) == []
    assert newcomers(Wanted(8), [], {}, {}, Random(1)) == []


def test_one_more_of_another_network_though_nobody_is_missing() -> None:
    up = [peer(number) for number in range(8)]
    crowd = dict.fromkeys(up, subnets_of([public(1)]))
    idle = {peer(20): (public(1),), peer(21): (public(2),), peer(22): (public(2),), peer(23): (public(3),)}
    chosen = newcomers(Wanted(8), up, idle, crowd, Random(1))
    assert len(chosen) == 2
    assert {subnet for one in chosen for subnet in subnets_of(idle[one])} == subnets_of([public(2), public(3)])
    wide = {one: subnets_of([public(number)]) for number, one in enumerate(up)}
    assert newcomers(Wanted(8), up, idle, wide, Random(1)) == []


@given(
    st.lists(st.integers(0, 5), max_size=20),
    st.lists(st.integers(0, 5), max_size=20),
    st.integers(0, 12),
    st.integers(),
)
def test_never_twice_and_never_more_than_it_takes(up: list[int], idle: list[int], wanted: int, seed: int) -> None:
    standing = [peer(number) for number in range(len(up))]
    subnets = {one: subnets_of([public(network)]) for one, network in zip(standing, up, strict=True)}
    offered = {peer(100 + number): (public(network),) for number, network in enumerate(idle)}
    chosen = newcomers(Wanted(wanted), standing, offered, subnets, Random(seed))
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= set(offered)
    assert len(chosen) <= max(wanted - len(up), 0) + 4
    assert len(chosen) >= min(max(wanted - len(up), 0), len(idle))
