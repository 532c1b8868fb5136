"""Who meets whom: the dial matrix, and relays."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.nat import APART, DIRECT, NATS, PUNCHED, RELAYED, Meetings, can_dial, meeting

KINDS = st.sampled_from(NATS)


@pytest.mark.parametrize(("source", "target"), list(product(NATS, NATS)))
def test_only_the_public_can_be_dialled(source: str, target: str) -> None:
    assert can_dial(source, target) is (target == "public")


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ("public", "public", DIRECT),
        ("public", "cone", DIRECT),
        ("public", "symmetric", DIRECT),
        ("cone", "cone", PUNCHED),
        ("cone", "symmetric", RELAYED),
        ("symmetric", "symmetric", RELAYED),
    ],
)
def test_how_two_meet(first: str, second: str, how: str) -> None:
    assert meeting(first, second, relay=True) == meeting(second, first, relay=True) == how
    assert meeting(first, second, relay=False) == (how if how == DIRECT else APART)


def test_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError):
        can_dial("public", "carrier")


@given(st.lists(st.tuples(KINDS, st.integers(0, 2)), min_size=2, max_size=12), st.booleans())
def test_a_way_leads_over_a_public_peer_or_nobody(peers: list[tuple[str, int]], relay: bool) -> None:
    nats, regions = [kind for kind, _ in peers], [region for _, region in peers]
    meetings = Meetings(nats, regions, relay)
    has_public = "public" in nats
    assert meetings.is_open == (set(nats) == {"public"})
    for source, target in product(range(len(peers)), repeat=2):
        if source == target:
            continue
        way, how = meetings.way(source, target), meeting(nats[source], nats[target], relay)
        assert way == tuple(reversed(meetings.way(target, source)))
        if how == DIRECT or (how == PUNCHED and has_public):
            assert way == (source, target)
        elif how == RELAYED and has_public:
            assert way[0] == source and way[-1] == target and len(way) == 3
            assert nats[way[1]] == "public"
            home = regions[max(source, target)]
            near = [peer for peer, kind in enumerate(nats) if kind == "public" and regions[peer] == home]
            assert not near or way[1] in near
        else:
            assert way == ()


def test_relays_share_the_load() -> None:
    nats = ["public"] * 4 + ["symmetric"] * 40
    meetings = Meetings(nats, [0] * 44, relay=True)
    used = [meetings.way(4, peer)[1] for peer in range(5, 44)]
    assert sorted(set(used)) == [0, 1, 2, 3]
    assert max(used.count(relay) for relay in range(4)) <= 10
