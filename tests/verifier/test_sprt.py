"""verifier/sprt.py: decisions as rarely wrong as they say, and no decision without evidence."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.sprt import BOUND, ODDS, Evidence, Hypotheses, pooled

RATES = Hypotheses(0.002, 0.011)


def test_odds_are_the_ratio_of_likelihoods() -> None:
    seen = Evidence(3, 200)
    ratio = (0.011**3 * 0.989**197) / (0.002**3 * 0.998**197)
    assert math.isclose(RATES.log_odds(seen), math.log(ratio))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 500)), max_size=6))
def test_evidence_adds_up(parts: list[tuple[int, int]]) -> None:
    seen = [Evidence(misses, misses + hits) for misses, hits in parts]
    assert math.isclose(RATES.log_odds(pooled(seen)), sum(map(RATES.log_odds, seen)), abs_tol=1e-9)


def test_nothing_is_decided_early() -> None:
    assert RATES.decide(Evidence()) == "more"
    assert RATES.decide(Evidence(0, 1500)) == "more"
    assert RATES.decide(Evidence(0, 1550)) == "accept"
    assert [RATES.decide(Evidence(misses, misses)) for misses in (8, 9)] == ["more", "reject"]


@pytest.mark.parametrize(("rate", "expected"), [(0.0, "accept"), (0.03, "reject"), (0.4, "reject")])
def test_it_takes_about_as_many_tokens_as_said(rate: float, expected: str) -> None:
    chance, taken = random.Random(3), []
    for _ in range(200):
        misses = tokens = 0
        while RATES.decide(Evidence(misses, tokens)) == "more":
            tokens += 1
            misses += chance.random() < rate
        assert RATES.decide(Evidence(misses, tokens)) == expected
        taken.append(tokens)
    assert 0.9 < sum(taken) / len(taken) / RATES.tokens_expected(rate) < 1.35


def test_errors_are_rarer_than_the_odds_allow() -> None:
    """Wald: P(reject | honest) <= 1 / ODDS. Looked at through the likelihood ratio itself, whose mean under the honest
    hypothesis is 1 after any number of tokens, so that Markov bounds how often it can reach ODDS."""
    tokens = 400
    mean = sum(
        math.comb(tokens, misses)
        * RATES.honest**misses
        * (1 - RATES.honest) ** (tokens - misses)
        * math.exp(RATES.log_odds(Evidence(misses, tokens)))
        for misses in range(tokens + 1)
    )
    assert math.isclose(mean, 1, rel_tol=1e-9)
    assert math.isclose(math.exp(BOUND), ODDS)


def test_evidence_that_goes_nowhere_takes_for_ever() -> None:
    assert Hypotheses(0.2, 0.8).tokens_expected(0.5) > 1e15


def test_only_evidence_is_added() -> None:
    with pytest.raises(TypeError):
        sum([Evidence(1, 2)], start=0)
