"""GRAFT, PRUNE and heartbeats of both rules; each case of the live rules names its source in libp2p 0.8.1."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.gossip_params import SECOND, GossipParams
from simulations.mesh import Mesh, drawn
from simulations.mesh_upkeep import EagerUpkeep, SpecUpkeep, sample
from simulations.overlay import Overlay
from simulations.scores import Scores

LIVE = replace(GossipParams.unpatched(), topics=("a",))
PLAIN = replace(GossipParams.plain(), topics=("a",))
HARDENED = replace(GossipParams.hardened(), topics=("a",))


def star(params: GossipParams, neighbours: int) -> tuple[EagerUpkeep | SpecUpkeep, Mesh, Scores, Overlay]:
    """Peer 0 among its neighbours, and its mesh."""
    overlay = Overlay(Random(1), 1)
    for peer in range(neighbours + 1):
        overlay.come(peer, 0)
        if peer:
            overlay.link(peer, 0)
    scores = Scores(params, overlay)
    scores.grow(neighbours + 1)
    rules = EagerUpkeep if params.upkeep == "libp2p-0.8.1" else SpecUpkeep
    upkeep = rules(params, overlay, scores, Random(2))
    for meshes in upkeep.meshes:
        meshes.extend(Mesh() for _ in range(neighbours + 1))
    return upkeep, upkeep.meshes[0][0], scores, overlay


def test_the_live_mesh_grows_by_two_and_is_cut_back_to_the_degree() -> None:
    """_perform_opportunistic_grafting with equal scores; the cut counts members before that heartbeat's GRAFTs."""
    upkeep, mesh, _, _ = star(LIVE, 30)
    sizes = []
    for beat in range(6):
        upkeep.beat(0, beat * SECOND)
        sizes.append(len(mesh.members))
    assert sizes == [6, 8, 10, 12, 14, 8]


def test_a_neighbour_that_subscribes_fills_a_small_live_mesh() -> None:
    """on_peer_subscribed."""
    upkeep, mesh, _, _ = star(LIVE, 8)
    assert [upkeep.linked(0, other, 0) for other in range(1, 8)] == [(0,)] * 5 + [()] * 2
    assert mesh.members == [1, 2, 3, 4, 5]


def test_the_live_node_accepts_every_graft_but_after_a_prune() -> None:
    """handle_graft has no upper bound; graft_flood_tracking for 10 s, then back_off, which a refusal extends."""
    upkeep, mesh, _, _ = star(LIVE, 30)
    assert all(upkeep.grafted(0, other, 0, 0) for other in range(1, 25))
    assert len(mesh.members) == 24
    upkeep.pruned(0, 3, 0, 5 * SECOND)
    assert 3 not in mesh.members
    assert not upkeep.grafted(0, 3, 0, 14 * SECOND)
    assert mesh.backoff[3] == 65 * SECOND
    assert not upkeep.grafted(0, 3, 0, 64 * SECOND)
    assert mesh.backoff[3] == 124 * SECOND
    assert upkeep.grafted(0, 3, 0, 124 * SECOND)


def test_the_live_node_forgets_whom_it_pruned_by_heartbeat() -> None:
    """mesh_heartbeat sets no back-off of its own."""
    upkeep, mesh, _, _ = star(LIVE, 13)
    for other in range(1, 14):
        upkeep.grafted(0, other, 0, 0)
    controls = upkeep.beat(0, SECOND)
    assert sum(len(control.prunes) for control in controls) == 7
    assert not mesh.backoff


def test_grafts_of_the_live_node_pile_up_from_peer_to_peer() -> None:
    """_emit_control_msgs does not empty its list between peers."""
    upkeep, _, _, _ = star(replace(LIVE, topics=("a", "b")), 9)
    for other in (1, 2, 3, 4, 5, 6):
        upkeep.grafted(0, other, 0, 0)
    for other in range(1, 9):
        upkeep.grafted(0, other, 1, 0)
    controls = upkeep.beat(0, SECOND)
    assert [len(control.grafts) for control in controls] == sorted(len(control.grafts) for control in controls)
    assert sum(len(control.grafts) for control in controls) > 3


def test_the_live_node_replaces_its_worst_member() -> None:
    """_consider_peer_replacement: when grafting has taken its two, one more may come for a member that is worse."""
    upkeep, mesh, scores, _ = star(LIVE, 10)
    for other in range(1, 7):
        upkeep.grafted(0, other, 0, 0)
    mesh.hold_off(8, 100 * SECOND)
    scores.brought_invalid(0, 2, 0, 0)
    upkeep.beat(0, SECOND)
    assert sorted(mesh.members) == [1, 3, 4, 5, 6, 7, 9, 10]
    assert mesh.is_held_off(2, 60 * SECOND)


def test_the_plain_mesh_stays_between_its_bounds() -> None:
    upkeep, mesh, _, _ = star(PLAIN, 30)
    upkeep.beat(0, SECOND)
    assert len(mesh.members) == 6
    assert upkeep.beat(0, 2 * SECOND) == []
    others = [other for other in range(1, 31) if other not in mesh.members]
    assert [upkeep.grafted(0, other, 0, 3 * SECOND) for other in others[:7]] == [True] * 6 + [False]
    assert len(mesh.members) == 12


def test_pruning_keeps_the_best_and_some_that_were_dialled() -> None:
    upkeep, mesh, scores, overlay = star(HARDENED, 20)
    for other in range(1, 14):
        mesh.add(other)
    for other in (1, 2, 3, 4, 5, 6):
        scores.appraise(0, other, 5.0, 0)
    overlay.dialled[0].update({12, 13})
    controls = upkeep.beat(0, SECOND)
    assert sum(len(control.prunes) for control in controls) == 5
    assert len(mesh.members) == 8
    assert {12, 13} <= set(mesh.members)
    assert len(set(mesh.members) & {1, 2, 3, 4, 5, 6}) >= 5
    assert len(mesh.backoff) == 5


def test_negative_scores_are_pruned_and_not_grafted() -> None:
    upkeep, mesh, scores, _ = star(HARDENED, 9)
    upkeep.beat(0, SECOND)
    victim = mesh.members[0]
    scores.appraise(0, victim, -1.0, SECOND)
    upkeep.beat(0, 2 * SECOND)
    assert victim not in mesh.members
    assert not upkeep.grafted(0, victim, 0, 200 * SECOND)


def test_a_poor_mesh_is_improved_at_the_tick() -> None:
    """Opportunistic grafting of the specification: every 60 heartbeats, when the median is below the threshold."""
    weights = replace(HARDENED.weights, graft_median=1.0)
    upkeep, mesh, scores, _ = star(replace(HARDENED, weights=weights), 15)
    for other in range(1, 9):
        upkeep.grafted(0, other, 0, 0)
    for other in (14, 15):
        scores.appraise(0, other, 9.0, 0)
    for beat in range(1, 61):
        assert 14 not in mesh.members
        upkeep.beat(0, beat * SECOND)
    assert {14, 15} <= set(mesh.members)


def test_backoff_ends() -> None:
    mesh = Mesh()
    mesh.hold_off(1, 10)
    mesh.hold_off(1, 5)
    assert mesh.is_held_off(1, 9)
    assert mesh.pool([1, 2], 9) == [2]
    assert mesh.pool([1, 2], 10) == [1, 2]
    assert not mesh.backoff
    assert not mesh.remove(1)


@given(st.lists(st.tuples(st.sampled_from("arhp"), st.integers(0, 9), st.integers(0, 20)), max_size=60))
def test_the_pool_is_what_a_fresh_look_would_find(steps: list[tuple[str, int, int]]) -> None:
    mesh, now, links = Mesh(), 0, list(range(10))
    for step, peer, amount in steps:
        if step == "a" and peer not in mesh.members:
            mesh.add(peer)
        elif step == "r":
            mesh.remove(peer)
        elif step == "h":
            mesh.hold_off(peer, now + amount)
        else:
            now += amount
        fresh = [each for each in links if each not in mesh.members and not mesh.is_held_off(each, now)]
        assert mesh.pool(links, now) == fresh


@given(st.lists(st.integers(), unique=True, max_size=30), st.integers(0, 40), st.integers(0, 1 << 64))
def test_draws_are_different_members(pool: list[int], wanted: int, key: int) -> None:
    for found in (drawn(pool, wanted, key), sample(pool, wanted, Random(key))):
        assert len(found) == len(set(found)) == min(wanted, len(pool))
        assert set(found) <= set(pool)


@pytest.mark.parametrize("draw", ["drawn", "sample"])
def test_draws_are_fair(draw: str) -> None:
    counts = [0] * 10
    random = Random(1)
    for key in range(4000):
        for member in drawn(list(range(10)), 3, key) if draw == "drawn" else sample(list(range(10)), 3, random):
            counts[member] += 1
    assert all(1050 < count < 1350 for count in counts)
