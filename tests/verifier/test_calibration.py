"""verifier/calibration.py: measured profiles as data."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.proof import PPT
from verifier.calibration import PROFILES, find, parse, profile_of

KEY = ("training", "sgd", "x86-fp32", "arm-fp32")
CHEATS = {"a rate": 4e-3, "a bias": 3e-2}


def test_errors_become_a_profile_and_its_tolerance() -> None:
    made = profile_of([1e-7, 4e-7] * 100, CHEATS, KEY, "a small model")
    assert made.name == "training/sgd/arm-fp32/x86-fp32"
    assert (made.runs, made.model) == (200, "a small model")
    assert made.tolerance.t_ok == pytest.approx(2e-6 * PPT, rel=1e-4)
    assert made.tolerance.t_bad == pytest.approx(2e-3 * PPT, rel=1e-4)
    assert made.tolerance.profile == f"training/sgd/{made.digest.hex()[:16]}"


def test_a_class_without_a_margin_gets_none() -> None:
    with pytest.raises(Refused) as refused:
        profile_of([1e-2] * 225, CHEATS, KEY, "")
    assert refused.value.code == "no_margin"


def test_pairs_have_no_order() -> None:
    one = profile_of([1e-7] * 200, CHEATS, KEY, "")
    assert find([one], "training", "sgd", ("x86-fp32", "arm-fp32")) == one
    assert find([one], "training", "sgd", ("arm-fp32", "x86-fp32")) == one
    with pytest.raises(Refused) as refused:
        find([one], "training", "sgd", ("arm-fp32", "arm-fp32"))
    assert refused.value.code == "not_calibrated"


def test_every_profile_of_ours_keeps_its_margins_and_travels() -> None:
    assert {profile.optimizer for profile in PROFILES} == {"sgd", "adamw"}
    for profile in PROFILES:
        assert profile.tolerance.t_bad >= 5 * profile.tolerance.t_ok
        assert profile.classes == tuple(sorted(profile.classes))
        assert parse(msgspec.json.encode(profile)) == profile
    assert len({profile.digest for profile in PROFILES}) == len(PROFILES)


@given(field=st.sampled_from(["runs", "honest_max", "cheat_min"]), value=st.integers(-5, 10**16))
def test_the_digest_is_of_everything(field: str, value: int) -> None:
    first = PROFILES[0]
    try:
        other = parse(msgspec.json.encode({**msgspec.to_builtins(first), field: value}))
    except Refused as refused:
        assert refused.code == "malformed_proof"
        return
    assert (other.digest == first.digest) == (other == first)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_refused(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse(data)
    assert refused.value.code == "malformed_proof"


def test_our_profiles_are_those_of_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "honest-matrix.md").read_text(encoding="utf-8")
    for profile in PROFILES:
        assert f"`{profile.tolerance.profile}`" in text
        assert f"| {profile.honest_max / PPT:.1e} | {profile.cheat_min / PPT:.1e} |" in text
