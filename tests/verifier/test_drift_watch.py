"""verifier/drift_watch.py: accounts of providers, bounded; who drifts is news once, and clean again later."""

from __future__ import annotations

import numpy as np

from protocol.completions import UnitError
from protocol.proof import Tolerance
from protocol.units import PeerId
from tests.verifier.test_drift import units
from verifier.drift import UNITS_MAX, coded
from verifier.drift_watch import ACCOUNTS_MAX, DriftWatch

ALLOWED = Tolerance(t_ok=10_000_000, t_bad=1_000_000_000, profile="mine")
OTHER = Tolerance(t_ok=10_000_000, t_bad=1_000_000_000, profile="other")
PROVIDER = PeerId(b"p" * 32)


def errors(count: int, seed: int, common: float = 0.0, along: float = 0.0, noise: float = 8e-6) -> list[UnitError]:
    found = [coded(one) for one in units(count, seed, common, along, noise)]
    return [one for one in found if one is not None]


def biased(count: int) -> list[UnitError]:
    """Nine tenths of what is tolerated, always to one side."""
    return errors(count, 1, common=9e-6, noise=1e-7)


def test_noise_is_no_news() -> None:
    watch = DriftWatch(b"secret")
    assert all(watch.note(PROVIDER, ALLOWED, errors(4, seed)) is None for seed in range(64))
    assert watch.flagged == {}


def test_a_push_is_news_once() -> None:
    watch = DriftWatch(b"secret")
    found = [watch.note(PROVIDER, ALLOWED, [one]) for one in biased(20)]
    (news,) = [one for one in found if one is not None]
    assert news.code == "drift" and 8 <= news.units <= 12
    assert set(watch.flagged) == {(PROVIDER, "mine")}
    assert watch.note(PROVIDER, OTHER, biased(4)) is None, "another profile is another account"


def test_who_stops_is_clean_again() -> None:
    watch = DriftWatch(b"secret")
    watch.note(PROVIDER, ALLOWED, biased(20))
    watch.note(PROVIDER, ALLOWED, errors(UNITS_MAX, 3))
    assert watch.flagged == {}


def test_nothing_is_noted_of_nothing_and_accounts_are_bounded() -> None:
    watch = DriftWatch(b"secret")
    assert watch.note(PROVIDER, ALLOWED, []) is None
    watch.note(PROVIDER, ALLOWED, biased(20))
    kept = biased(1)
    chance = np.random.Generator(np.random.PCG64(1))
    for _ in range(ACCOUNTS_MAX):
        watch.note(PeerId(chance.bytes(32)), ALLOWED, kept)
    assert watch.flagged == {}, "the oldest account is forgotten"
