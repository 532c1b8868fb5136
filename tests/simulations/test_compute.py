"""Chunk times follow their distribution, the card's speed and the share of stragglers."""

from __future__ import annotations

from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.gpu_models import canonical_name, vendor_of
from simulations.compute import STRAGGLE_FACTOR, Computer, draw
from simulations.scenario import NS, Duration
from simulations.tables.gpus import MIXES, REFERENCE, STEAM_2024, Gpu, deal

FIXED = Duration(model="fixed", value=90 * NS)
SLOW = next(part.gpu for part in STEAM_2024 if part.gpu.name == "GTX1650")


def test_a_fixed_time_is_scaled_by_speed_alone() -> None:
    assert Computer(REFERENCE, 0.0, 0.0, Random(1)).time(FIXED) == 90 * NS
    assert Computer(REFERENCE, 0.0, 0.0, Random(1)).time(7) == 7
    slower = Computer(SLOW, 0.0, 0.0, Random(1)).time(FIXED)
    assert slower == 90 * NS * REFERENCE.mflops // SLOW.mflops
    assert 4.2 < slower / (90 * NS) < 4.3


def test_a_lognormal_has_its_median_and_an_exponential_its_mean() -> None:
    random = Random(2)
    lognormal = Duration(model="lognormal", value=90 * NS, sigma=0.6)
    assert median(draw(lognormal, random) for _ in range(4_000)) == pytest.approx(90 * NS, rel=0.04)
    exponential = Duration(model="exponential", value=90 * NS)
    assert mean(draw(exponential, random) for _ in range(8_000)) == pytest.approx(90 * NS, rel=0.04)


@given(seed=st.integers(0, 1 << 32), value=st.integers(1, 1 << 50), sigma=st.floats(0.0, 5.0))
def test_times_are_positive_integers_and_repeatable(seed: int, value: int, sigma: float) -> None:
    for model in ("fixed", "exponential", "lognormal"):
        duration = Duration(model=model, value=value, sigma=sigma)
        first, again = (Computer(SLOW, 0.5, 0.5, Random(seed)).time(duration) for _ in range(2))
        assert first == again >= 1
        assert type(first) is int


def test_stragglers_take_ten_times_as_long_in_their_share() -> None:
    computer = Computer(REFERENCE, 0.1, 0.0, Random(3))
    times = [computer.time(FIXED) for _ in range(5_000)]
    assert set(times) == {90 * NS, STRAGGLE_FACTOR * 90 * NS}
    assert 400 < sum(time > 90 * NS for time in times) < 600


def test_corruption_has_its_share_and_can_be_switched() -> None:
    computer = Computer(REFERENCE, 0.0, 0.0, Random(4))
    assert not any(computer.is_corrupt() for _ in range(1_000))
    computer.corrupt = 0.2
    assert 850 < sum(computer.is_corrupt() for _ in range(5_000)) < 1_150
    computer.corrupt = 1.0
    assert all(computer.is_corrupt() for _ in range(1_000))


@pytest.mark.parametrize(
    "duration",
    [
        Duration(model="fixed", value=0),
        Duration(model="exponential", value=-1),
        Duration(model="lognormal", value=1, sigma=-0.1),
        Duration(model="lognormal", value=1, sigma=float("nan")),
    ],
)
def test_impossible_times_are_refused(duration: Duration) -> None:
    with pytest.raises(Refused) as caught:
        draw(duration, Random(1))
    assert caught.value.code == "bad_duration" and caught.value.fix


@pytest.mark.parametrize(("straggle", "corrupt"), [(-0.1, 0.0), (0.0, 1.1), (float("nan"), 0.0)])
def test_shares_outside_0_and_1_are_refused(straggle: float, corrupt: float) -> None:
    with pytest.raises(Refused, match="share of chunks"):
        Computer(REFERENCE, straggle, corrupt, Random(1))


def test_a_mix_is_dealt_by_its_shares() -> None:
    random, found = Random(5), dict[str, int]()
    for _ in range(20_000):
        name = deal("steam-2024", random).name
        found[name] = found.get(name, 0) + 1
    total = sum(part.share for part in STEAM_2024)
    for part in STEAM_2024:
        expected = 20_000 * part.share / total
        assert abs(found[part.gpu.name] - expected) < 5 * expected**0.5, part
    assert {deal("uniform", random) for _ in range(100)} == {REFERENCE}


def test_an_unknown_mix_is_refused_with_those_known() -> None:
    with pytest.raises(Refused) as caught:
        deal("steam-2023", Random(1))
    assert caught.value.code == "unknown_mix"
    assert all(name in caught.value.fix for name in MIXES)


def test_the_table_says_what_its_docstring_says() -> None:
    assert len(STEAM_2024) == len({part.gpu.name for part in STEAM_2024}) == 24
    assert sum(part.share for part in STEAM_2024) == 5_654
    assert [part.share for part in STEAM_2024] == sorted((part.share for part in STEAM_2024), reverse=True)
    assert min(part.share for part in STEAM_2024) >= 90
    assert max((part.gpu for part in STEAM_2024), key=lambda gpu: gpu.mflops).name == "RTX4090"


def test_desktop_cards_have_the_protocols_names() -> None:
    for part in STEAM_2024:
        if not part.gpu.name.endswith("LAPTOP") and not part.gpu.name.startswith("GTX1050"):
            assert vendor_of(canonical_name(part.gpu.name)) == "nvidia", part


def test_speed_is_peak_fp32() -> None:
    assert Gpu("RTX4090", 16384, 2520, 24576, 450).mflops == 82_575_360
