"""The graph of connections under gossip."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.overlay import Overlay, checked_links
from simulations.spread import Spread


@given(st.lists(st.tuples(st.sampled_from("cgdu"), st.integers(0, 11), st.integers(0, 11)), max_size=80))
def test_links_go_both_ways_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    overlay = Overlay(Random(1), 3)
    overlay.grow(12)
    for step, peer, other in steps:
        if step == "c" and not overlay.is_up[peer]:
            overlay.come(peer, 0)
        elif step == "g" and overlay.is_up[peer]:
            overlay.go(peer)
        elif step == "d" and overlay.is_up[peer]:
            overlay.dial(peer, 2, lambda source, target: (source + target) % 5 != 0)
        elif step == "u" and other in overlay.links[peer]:
            overlay.unlink(peer, other)
    assert overlay.population == sum(overlay.is_up)
    for peer, links in enumerate(overlay.links):
        assert len(set(links)) == len(links)
        assert peer not in links
        assert not links or overlay.is_up[peer]
        for other in links:
            assert peer in overlay.links[other]
            assert (other in overlay.dialled[peer]) != (peer in overlay.dialled[other])
            assert (peer + other) % 5 != 0


def test_a_given_graph_is_checked() -> None:
    assert checked_links([[1, 2], {0}, ()]) == [(0, 1), (0, 2)]
    for links in ([[0]], [[1]], [[-1], []]):
        with pytest.raises(Refused) as refusal:
            checked_links(links)
        assert refusal.value.code == "bad_link"


def test_nobody_comes_twice() -> None:
    overlay = Overlay(Random(1), 3)
    overlay.come(2, 5)
    assert (len(overlay), overlay.population, overlay.born[2]) == (3, 1, 5)
    with pytest.raises(Refused):
        overlay.come(2, 6)


def test_whoever_forgets_can_hear_again() -> None:
    spread = Spread(1, 0, 0, "x", 10, True)
    spread.begin(3, 3, 7)
    spread.has[1] = 1
    spread.missing -= 1
    spread.forget(1, is_up=False)
    spread.forget(2, is_up=False)
    assert spread.missing == 1
    spread.forget(1, is_up=True)
    spread.forget(9, is_up=True)
    assert spread.missing == 3
    assert not any(spread.has)
    assert len(spread.at) == len(spread.hops) == 10
