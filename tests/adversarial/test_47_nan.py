"""Attack 47: NaN or an infinity instead of numbers, because `nan > tolerance` is false.

The defence: finite first, in the child; and every comparison is written so that no number at all is not accepted.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from node.blobs import BlobStore
from node.proving.judgement import judge
from protocol.effects import Score, ScoreItem
from protocol.proof import PPT, Tolerance
from protocol.units import MIB
from tests.adversarial.unit_stand import AUDITOR, PROVIDER
from verifier import comparing
from verifier.score import SECOND, Comparison, score
from verifier.tensors import Array, encode

TOLERANCE = Tolerance(t_ok=10**7, t_bad=4 * 10**9)
NUMBERS = (np.nan, np.inf, -np.inf)


def state(step: int, spoilt: float = 0.0) -> dict[str, Array]:
    weights = np.linspace(1, 2, 16, dtype=np.float32) * np.float32(step + 1)
    weights[3] += np.float32(spoilt)
    return {"parameters/w": weights, "step": np.array([step])}


def aux(spoilt: float = 0.0) -> dict[str, Array]:
    return {"losses": np.array([0.5 + spoilt]), "norms": np.ones(1), "gradient": np.ones(4)}


def unit(blobs: BlobStore, name: str, number: float) -> Score:
    """A unit of training, one of whose five files holds this number."""
    spoilt = {
        one: number if one == name else 0.0 for one in ("start", "claimed", "replayed", "claimed_aux", "replayed_aux")
    }
    item = ScoreItem(
        0,
        start=blobs.put(encode(state(0, spoilt["start"]))),
        claimed=blobs.put(encode(state(1, spoilt["claimed"]))),
        replayed=blobs.put(encode(state(1, spoilt["replayed"]))),
        claimed_aux=blobs.put(encode(aux(spoilt["claimed_aux"]))),
        replayed_aux=blobs.put(encode(aux(spoilt["replayed_aux"]))),
    )
    return Score("audit", "training", TOLERANCE, (item,), PROVIDER, AUDITOR)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 16 * MIB)


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_claim_without_numbers_is_malformed_and_the_providers_fault(blobs: BlobStore, number: float) -> None:
    for name in ("start", "claimed", "claimed_aux"):
        found = await judge(unit(blobs, name, number), blobs)
        assert (found.report, found.code, found.fault) == (None, "malformed_proof", "provider")


async def test_an_auditor_cannot_condemn_by_nan_alone(blobs: BlobStore) -> None:
    """Its own numbers count for nothing, but they are no proof of anybody's fault: another auditor is drawn."""
    found = await judge(unit(blobs, "replayed", np.nan), blobs)
    assert found.fault == "" and found.report is not None
    assert found.report.score == 0 and found.code == "not_finite"


async def test_the_honest_twin_is_accepted(blobs: BlobStore) -> None:
    found = await judge(unit(blobs, "", 0.0), blobs)
    assert (found.code, found.fault) == ("within_tolerance", "")


@pytest.mark.parametrize("err", [math.nan, math.inf, -math.inf, -1.0])
def test_an_error_that_is_no_number_scores_nothing(err: float) -> None:
    assert score(err, TOLERANCE) == 0 < SECOND
    line = comparing.scored(0, Comparison(err, "update_differs", ""), TOLERANCE)
    assert (line.score, line.err) == (0, comparing.ERR_MAX)
    assert score(TOLERANCE.t_ok / PPT, TOLERANCE) == 1_000_000


@pytest.mark.parametrize("kind", sorted(comparing.CLASSES))
@pytest.mark.parametrize("number", NUMBERS)
def test_no_class_accepts_nan_on_both_sides(kind: str, number: float) -> None:
    """A claim of nothing but nan, compared with itself."""
    names = ("parameters/w", "values", "sums", "rows", "x")
    spoilt: dict[str, Array] = {name: np.full((2, 2), number) for name in names}
    told = {
        **aux(number),
        **{name: np.full((2, 2), number) for name in ("values", "sums", "pixel_sums", "rows", "margins")},
    }
    found = comparing.compare(kind, state(0), spoilt, spoilt, told, told, TOLERANCE)
    assert score(found.err, TOLERANCE) == 0, found
