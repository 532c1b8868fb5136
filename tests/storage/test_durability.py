"""storage/durability.py: the table of the design, and nothing called durable on hope."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.snapshots import required
from storage import durability
from storage.durability import MARGIN, PRIOR_GONE, PRIOR_SEEN, choose, gone_at_most, is_safe, loss, target, verdict
from storage.erasure import ANCHOR, ANCHOR_WIDE, ROLLING, Code


@pytest.mark.parametrize(
    ("k", "n", "losses"),
    [
        (1, 3, (8e-6, 1.25e-4, 1e-3, 8e-3)),
        (8, 12, (2e-6, 2e-4, 4e-3, 7e-2)),
        (8, 14, (4e-9, 2e-6, 2e-4, 1e-2)),
        (8, 20, (6e-18, 7e-13, 4e-9, 2e-5)),
        (16, 32, (6e-21, 2e-14, 1e-9, 3e-5)),
    ],
)
def test_the_table_of_losses(k: int, n: int, losses: tuple[float, ...]) -> None:
    found = [loss(Code(k, n), n, gone) for gone in (0.02, 0.05, 0.1, 0.2)]
    assert found == [pytest.approx(expected, rel=0.6) for expected in losses]


@given(st.integers(1, 20), st.integers(0, 20), st.floats(0, 1), st.integers(0, 40))
def test_loss_is_a_chance_and_never_falls_with_fewer_shards(k: int, more: int, gone: float, placed: int) -> None:
    code = Code(k, k + more)
    assert 0.0 <= loss(code, placed, gone) <= 1.0
    assert loss(code, placed, gone) >= loss(code, placed + 1, gone) - 1e-12


@given(st.floats(0, 100), st.floats(0, 10_000))
def test_the_bound_is_above_what_was_seen_and_closes_in(failures: float, seen: float) -> None:
    failures = min(failures, seen)
    bound = gone_at_most(failures, seen)
    assert bound > (failures + PRIOR_GONE) / (seen + PRIOR_SEEN)
    assert bound <= gone_at_most(failures + 1, seen + 1)
    assert gone_at_most(0, 10_000) < 0.001


@given(st.integers(0, 80), st.floats(0, 0.5), st.sampled_from(["rolling", "anchor", "volume"]))
def test_a_code_can_become_durable_with_the_domains_there_are(domains: int, gone: float, purpose: str) -> None:
    code = choose(domains, gone, purpose)  # type: ignore[arg-type]
    assert required(code.k, code.n) <= max(1, domains)


def test_classes() -> None:
    assert choose(0, 0.01, "rolling") == Code(1, 1)
    assert choose(5, 0.01, "rolling") == Code(1, 3)
    assert choose(30, 0.02, "rolling") == ROLLING
    assert choose(30, 0.06, "rolling") == ANCHOR  # 8/14 would not be safe there
    assert choose(30, 0.3, "rolling") == ROLLING  # nothing is
    assert choose(30, 0.02, "anchor") == ANCHOR
    assert choose(60, 0.05, "volume") == ANCHOR_WIDE
    assert choose(60, 0.05, "volume", is_large=True) == ANCHOR


def test_what_is_said() -> None:
    assert verdict(Code(1, 3), 3, 1, 0.001, "rolling").text == "kept by 3 peers in 1 failure domain: not durable"
    good = verdict(ROLLING, 14, 14, 0.02, "rolling")
    assert good.is_durable
    assert good.text == "kept by 14 peers in 14 failure domains, any 8 give it back: durable"
    unknown = verdict(ROLLING, 14, 14, gone_at_most(0, 0), "rolling")
    assert not unknown.is_durable
    assert "not proven durable" in unknown.text
    assert not verdict(ROLLING, 14, 10, 0.0, "rolling").is_durable  # ten domains are too few


@given(st.integers(1, 40), st.floats(0, 1), st.sampled_from(["rolling", "anchor"]))
def test_durable_means_ten_times_under_the_target(domains: int, gone: float, purpose: str) -> None:
    said = verdict(ROLLING, domains, domains, gone, purpose)  # type: ignore[arg-type]
    placed = min(domains, 14)
    if said.is_durable:
        assert MARGIN * loss(ROLLING, placed, gone) <= target(purpose)  # type: ignore[arg-type]
        assert is_safe(ROLLING, placed, gone, purpose)  # type: ignore[arg-type]
    assert math.isclose(said.loss, loss(ROLLING, placed, gone))


def test_targets() -> None:
    assert target("rolling") == durability.LOSS_MAX_ROLLING
    assert target("volume") == target("anchor") == durability.LOSS_MAX_ANCHOR
