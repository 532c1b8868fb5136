"""verifier/fingerprint.py: like where the forward pass is like, unlike elsewhere, and never a crash."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from verifier import fingerprint
from verifier.fingerprint import BOUNDS, Fingerprint, Likeness

HIDDEN = np.random.default_rng(5).normal(0, 1, (70, 64)).astype(np.float32)
SHAPE = fingerprint.shape(70, 64)
OWN = fingerprint.take(HIDDEN)


@given(st.integers(1, 5000))
def test_every_position_is_in_one_chunk(positions: int) -> None:
    spans = fingerprint.spans(positions)
    assert [place for start, end in spans for place in range(start, end)] == list(range(positions))
    assert all(end - start >= min(positions, 32) and end - start < 64 for start, end in spans)


def test_it_holds_the_largest_with_their_signs() -> None:
    flat = HIDDEN[:32].reshape(-1)
    expected = np.sort(np.argsort(-np.abs(flat), kind="stable")[:128])
    assert np.mean(np.isin(OWN.places[0], expected)) > 0.98, "only ties after rounding may differ"
    back = (OWN.values[0].astype(np.uint32) << 16).view(np.float32)
    assert np.allclose(back, flat[OWN.places[0]], rtol=2**-8)
    assert OWN.places.shape == SHAPE == (2, 128)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**126), max_value=2.0**126))
def test_floats_are_rounded_to_even(value: float) -> None:
    (word,) = struct.unpack("<I", struct.pack("<f", value))
    low, high = word & 0xFFFF, word >> 16
    expected = high + (low > 0x8000 or (low == 0x8000 and high & 1))
    assert int(fingerprint.bfloat16(np.array([value], np.float32))[0]) == expected


def test_it_is_like_itself() -> None:
    assert fingerprint.fault(OWN, SHAPE) == ""
    assert fingerprint.compare(OWN, OWN) == Likeness(1.0, 0.0, 0.0)


def test_noise_of_fp32_is_within_its_bounds() -> None:
    noisy = HIDDEN * (1 + np.random.default_rng(6).normal(0, 1e-6, HIDDEN.shape)).astype(np.float32)
    assert fingerprint.compare(fingerprint.take(noisy), OWN).is_within(BOUNDS["fp32"])


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_more_noise_is_outside_of_them(noise: float) -> None:
    noisy = HIDDEN + np.random.default_rng(6).normal(0, noise, HIDDEN.shape).astype(np.float32)
    assert not fingerprint.compare(fingerprint.take(noisy), OWN).is_within(BOUNDS["fp32"])


def test_turned_signs_are_seen() -> None:
    turned = Fingerprint(OWN.places, OWN.values ^ np.uint16(0x8000))
    found = fingerprint.compare(turned, OWN)
    assert found.equal == 0 and not found.is_within(BOUNDS["bf16"])


def test_one_bad_chunk_is_enough() -> None:
    values = OWN.values.copy()
    values[1] ^= np.uint16(0x8000)
    assert fingerprint.compare(Fingerprint(OWN.places, values), OWN).equal == 0


def test_nan_is_outside_of_any_bounds() -> None:
    assert not Likeness(float("nan"), 0, 0).is_within(BOUNDS["bf16"])
    assert not Likeness(1, float("nan"), 0).is_within(BOUNDS["bf16"])
    assert not Likeness(1, 0, float("nan")).is_within(BOUNDS["bf16"])


def broken() -> list[tuple[str, Fingerprint]]:
    places, values = OWN
    twice = places.copy()
    twice[0, 1] = twice[0, 0]
    endless = values.copy()
    endless[0, 0] = 0x7F80
    return [
        ("type of places", Fingerprint(places.astype(np.int64), values)),
        ("type of values", Fingerprint(places, values.astype(np.int16))),
        ("one row less", Fingerprint(places[:1], values[:1])),
        ("one column less", Fingerprint(places[:, 1:], values[:, 1:])),
        ("no shape", Fingerprint(places.reshape(-1), values.reshape(-1))),
        ("descending", Fingerprint(places[:, ::-1], values)),
        ("twice", Fingerprint(twice, values)),
        ("negative", Fingerprint(places - 2**20, values)),
        ("not finite", Fingerprint(places, endless)),
    ]


@pytest.mark.parametrize(("what", "claimed"), broken())
def test_malformed_ones_are_named(what: str, claimed: Fingerprint) -> None:
    assert fingerprint.fault(claimed, SHAPE), what


@pytest.mark.parametrize("shape", [(), (2,), (0, 128), (2, 0), (2, 129), (2, 128, 1)])
def test_shapes_that_no_fingerprint_has(shape: tuple[int, ...]) -> None:
    assert fingerprint.fault(OWN, shape)


@given(
    hnp.arrays(np.int32, (2, 128), elements=st.integers(-(2**31), 2**31 - 1)),
    hnp.arrays(np.uint16, (2, 128)),
    st.booleans(),
)
def test_whatever_passes_can_be_compared(
    places: fingerprint.Places, values: fingerprint.Values, is_sorted: bool
) -> None:
    claimed = Fingerprint(np.sort(np.abs(places // 2), axis=1) if is_sorted else places, values)
    if not fingerprint.fault(claimed, SHAPE):
        assert 0 <= fingerprint.compare(claimed, OWN).equal <= 1


def test_requests_are_joined_with_as_many_activations_as_the_least() -> None:
    short = fingerprint.take(HIDDEN[:1])
    joined = fingerprint.join([OWN, short])
    assert joined.places.shape == joined.values.shape == (3, 64)
    assert fingerprint.fault(joined, (3, 64)) == ""
