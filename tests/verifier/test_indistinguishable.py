"""A classifier on metadata: finds canaries that were made carelessly, and not those that follow the rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from tests.verifier.town_traffic import hidden, naive, real
from verifier.indistinguishable import AUC_MAX, SAMPLE_MIN, auc, check, cross_validated

COUNT = 1200


def test_canaries_that_follow_the_rules_are_not_found() -> None:
    assert check(real(COUNT), hidden(COUNT)) < AUC_MAX


@pytest.mark.parametrize("what", ["price", "limit", "timing", "size", "hour", "key"])
def test_one_careless_thing_gives_them_away(what: str) -> None:
    with pytest.raises(Refused) as caught:
        check(real(COUNT), naive(COUNT, what))
    assert caught.value.code == "distinguishable"
    assert int(caught.value.numbers["auc_ppm"]) > 600_000


def test_few_samples_say_nothing() -> None:
    with pytest.raises(Refused) as caught:
        check(real(SAMPLE_MIN), hidden(SAMPLE_MIN - 1))
    assert caught.value.code == "few_samples"


@given(
    positive=st.lists(st.integers(0, 9), min_size=1, max_size=20),
    negative=st.lists(st.integers(0, 9), min_size=1, max_size=20),
)
def test_auc_is_the_share_of_pairs_in_the_right_order(positive: list[int], negative: list[int]) -> None:
    scores = np.array([*positive, *negative], float)
    is_canary = np.arange(len(scores)) < len(positive)
    pairs = [(one > other) + (one == other) / 2 for one in positive for other in negative]
    assert auc(scores, is_canary) == pytest.approx(sum(pairs) / len(pairs))


def test_a_perfect_feature_is_ranked_perfectly() -> None:
    dice = np.random.default_rng(1)
    is_canary = np.arange(400) % 2 == 0
    rows = np.column_stack([is_canary + dice.normal(0, 0.01, 400), dice.normal(0, 1, 400), np.zeros(400)])
    assert cross_validated(rows, is_canary) > 0.99
