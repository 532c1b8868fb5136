"""Scores P1 to P7 by hand, their decay, and who is let in and out of meshes because of them."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.conduct import Conduct
from simulations.gossip_params import SECOND, GossipParams, ScoreWeights
from simulations.overlay import Overlay
from simulations.scores import Scores, faded

WEIGHTS = GossipParams.hardened().weights


def opinions(weights: ScoreWeights = WEIGHTS) -> tuple[Scores, Overlay]:
    overlay = Overlay(Random(1), 3)
    for peer in range(6):
        overlay.come(peer, 0)
        if peer:
            overlay.link(0, peer)
    scores = Scores(GossipParams(weights=weights, upkeep="spec", ids_agree=True), overlay)
    scores.grow(6)
    return scores, overlay


@given(st.floats(0.001, 1e6), st.floats(0.01, 1.0), st.integers(0, 5000))
def test_fading_is_a_power(value: float, decay: float, beats: int) -> None:
    assert faded(value, decay, beats) == pytest.approx(value * decay**beats, rel=1e-9, abs=1e-300)


def test_nothing_said_is_nothing_kept() -> None:
    scores, _ = opinions()
    assert scores.value(0, 1, 0) == scores.topic_value(0, 1, 0, 0) == 0.0
    assert not scores.tables[0]


def test_time_in_mesh_counts_up_to_its_cap() -> None:
    scores, _ = opinions(ScoreWeights(time_in_mesh=0.5, time_in_mesh_cap=10.0))
    scores.entered(0, 1, 2, 3 * SECOND)
    assert scores.value(0, 1, 7 * SECOND) == pytest.approx(2.0)
    assert scores.value(0, 1, 99 * SECOND) == pytest.approx(5.0)
    scores.left(0, 1, 2, 100 * SECOND)
    assert scores.value(0, 1, 101 * SECOND) == 0.0


def test_first_deliveries_fade() -> None:
    scores, _ = opinions(ScoreWeights(first=2.0, first_decay=0.5, first_cap=3.0))
    for _ in range(5):
        scores.delivered(0, 1, 0, SECOND, True)
    assert scores.value(0, 1, SECOND) == pytest.approx(6.0)
    assert scores.value(0, 1, 3 * SECOND) == pytest.approx(1.5)


def test_a_deficit_counts_after_its_time_and_sticks_when_the_member_leaves() -> None:
    scores, _ = opinions(
        ScoreWeights(deficit=1.0, deficit_decay=1.0, deficit_cap=9.0, deficit_threshold=4.0, deficit_after=10 * SECOND)
    )
    scores.entered(0, 1, 0, 0)
    scores.delivered(0, 1, 0, SECOND, False)
    assert scores.value(0, 1, 9 * SECOND) == 0.0
    assert scores.value(0, 1, 10 * SECOND) == pytest.approx(-9.0)
    scores.left(0, 1, 0, 11 * SECOND)
    assert scores.value(0, 1, 12 * SECOND) == pytest.approx(-9.0)


def test_invalid_statements_count_once_or_squared() -> None:
    for weights, expected in (
        (GossipParams.unpatched().weights, -30.0),
        (GossipParams.live().weights, -90.0),
        (WEIGHTS, -0.25 * 99.0 * 9.0),
    ):
        scores, _ = opinions(weights)
        for _ in range(3):
            scores.brought_invalid(0, 1, 0, SECOND)
        assert scores.value(0, 1, SECOND) == pytest.approx(expected)
        assert scores.topic_value(0, 1, 0, SECOND) == pytest.approx(expected)
        assert scores.value(2, 1, SECOND) == 0.0


def test_behaviour_counts_beyond_its_threshold() -> None:
    scores, _ = opinions()
    scores.misbehaved(0, 1, 6.0, 0)
    assert scores.value(0, 1, 0) == 0.0
    scores.misbehaved(0, 1, 2.0, 0)
    assert scores.value(0, 1, 0) == pytest.approx(-40.0)
    live, _ = opinions(GossipParams.unpatched().weights)
    live.misbehaved(0, 1, 100.0, 0)
    assert not live.tables[0]


def test_peers_of_one_address_are_counted_together() -> None:
    scores, overlay = opinions()
    for peer in (2, 3, 4):
        overlay.conducts[peer] = Conduct(sybil_of=9)
    assert scores.value(0, 2, 0) == pytest.approx(-400.0)
    assert scores.value(0, 1, 0) == 0.0
    assert scores.value(1, 2, 0) == 0.0


def test_the_application_has_its_say_until_the_peer_goes() -> None:
    scores, _ = opinions()
    scores.appraise(0, 1, -12.0, 0)
    assert scores.value(0, 1, 50 * SECOND) == pytest.approx(-12.0)
    scores.forget(0, 1)
    assert scores.value(0, 1, 50 * SECOND) == 0.0
