"""verifier/drift.py: errors without a direction are rounding, however many; errors with one are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.proof import PPT, Tolerance
from verifier.drift import SKETCH, UNITS_MAX, UNITS_MIN, Z_MAX, SignedError, coded, decoded, drift, signed_error
from verifier.tensors import Array

ALLOWED = Tolerance(t_ok=10_000_000, t_bad=1_000_000_000)
SIZE = 2_000
NAME = "parameters/w"


def units(count: int, seed: int, common: float, along: float, noise: float = 3e-6) -> list[SignedError]:
    """Errors in parts of the update: noise, a part that is the same in every unit, and one along the update."""
    chance = np.random.Generator(np.random.PCG64(seed))
    fixed = chance.standard_normal(SIZE)
    found = []
    for _ in range(count):
        start = chance.standard_normal(SIZE)
        update = chance.standard_normal(SIZE)
        error = noise * chance.standard_normal(SIZE) + common * fixed + along * update
        before, claimed, replayed = ({NAME: value} for value in (start, start + update + error, start + update))
        found.append(signed_error(before, claimed, replayed, b"secret"))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_never_flagged(seed: int) -> None:
    found = drift(units(64, seed, 0.0, 0.0, noise=8e-6), ALLOWED)
    assert not found.is_flagged
    assert abs(found.z_along) < Z_MAX
    assert abs(found.z_common) < Z_MAX
    assert found.code == "within_tolerance"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_push_along_the_update_is_flagged(sign: int) -> None:
    found = drift(units(40, 1, 0.0, sign * 9e-6), ALLOWED)
    assert (found.code, found.z_along * sign > Z_MAX) == ("drift", True)
    assert found.mean == pytest.approx(sign * 9e-6, rel=0.1)
    assert "40 units" in found.detail


def test_a_push_to_one_side_is_flagged_soon() -> None:
    found = drift(units(12, 2, 9e-6, 0.0), ALLOWED)
    assert (found.code, found.z_common > Z_MAX) == ("drift", True)
    assert not drift(units(UNITS_MIN - 1, 2, 9e-6, 0.0), ALLOWED).is_flagged


def test_what_honest_machines_differ_by_is_not_flagged_even_with_a_direction() -> None:
    """Two honest classes may round to different sides for ever: below a fifth of t_ok nobody minds."""
    found = drift(units(64, 3, 1e-6, 1e-6, noise=1e-7), ALLOWED)
    assert max(found.z_along, found.z_common) > Z_MAX
    assert not found.is_flagged


def test_only_the_newest_units_count() -> None:
    old, new = units(UNITS_MAX, 4, 9e-6, 0.0), units(UNITS_MAX, 5, 0.0, 0.0)
    assert drift(old, ALLOWED).is_flagged
    found = drift([*old, *new], ALLOWED)
    assert (found.units, found.is_flagged) == (UNITS_MAX, False)


def test_nothing_is_nothing() -> None:
    assert drift([], ALLOWED).code == "within_tolerance"
    still: dict[str, Array] = {NAME: np.ones(4)}
    assert signed_error(still, still, still, b"") == SignedError(0.0, 0.0, (0.0,) * SKETCH)


@given(secret=st.binary(max_size=8), other=st.binary(max_size=8))
def test_who_does_not_know_the_secret_does_not_know_where_it_looks(secret: bytes, other: bytes) -> None:
    chance = np.random.Generator(np.random.PCG64(7))
    start, after, claimed = ({NAME: chance.standard_normal(300)} for _ in range(3))
    one, two = (signed_error(start, claimed, after, key) for key in (secret, other))
    assert (one.sketch == two.sketch) == (secret == other)
    assert one.along == two.along
    assert one.size * PPT > 0


def test_what_crosses_the_process_is_whole_parts_per_trillion() -> None:
    (found,) = units(1, 6, 9e-6, 1e-6)
    carried = coded(found)
    assert carried is not None
    back = decoded(carried)
    assert back.size == pytest.approx(found.size, abs=1e-12)
    assert back.along == pytest.approx(found.along, abs=1e-12)
    assert back.sketch == pytest.approx(found.sketch, abs=1e-12)
    assert coded(SignedError(float("nan"), 0.0, ())) is None
    assert coded(SignedError(1.0, 0.0, (float("inf"),))) is None
