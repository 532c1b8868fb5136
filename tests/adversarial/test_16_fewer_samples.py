"""Attack 16: fewer samples, or a lower resolution, enlarged or denoised until it looks the same.

The defence: the variance law without any rendering, and pixels and sample ranges computed again. Looks prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from node.guest.work.ball import Ball
from tests.verifier import tiles
from tests.verifier.tiles import Tile
from verifier.perceptual_hash import distance, perceptual_hash
from verifier.rendering import compare
from verifier.score import ACCEPT, Comparison, score
from verifier.variance import broken, examine

CHEATS: dict[str, Callable[[Tile], Tile]] = {
    "half the samples": lambda aux: tiles.few_samples(aux, 2),
    "an eighth of the samples": lambda aux: tiles.few_samples(aux, 8),
    "half the resolution": lambda aux: tiles.enlarged(aux, 2),
    "a quarter of the resolution": lambda aux: tiles.enlarged(aux, 4),
    "denoised": tiles.smoothed,
}


def judged(aux: Tile) -> Comparison:
    before, after = tiles.states(aux)
    return compare(before, after, None, aux, tiles.replayed(), tiles.EXACT)


def counterfeit(aux: Tile) -> Tile:
    """A quarter of the samples, denoised, and noise from dice laid over every range until its size is right."""
    few = tiles.few_samples(aux, 4)
    mean = tiles.smoothed({"n": aux["n"], "sums": few["sums"].mean(axis=0, keepdims=True)})["sums"][0]
    dice = np.random.default_rng(9)
    spread = np.sqrt(np.maximum(aux["squares"] / 64 - np.square(mean / 8), 1.0) * 8)
    sums = mean + dice.normal(size=(8, *mean.shape[:2], 1)) * spread
    inside = np.square(sums).sum(axis=0) / 8
    return {"n": aux["n"], "sums": sums, "squares": inside + 56 * np.square(spread) / 8}


@pytest.mark.parametrize("cheat", sorted(CHEATS))
def test_cheaper_frames_are_refused_by_their_noise_alone(cheat: str) -> None:
    aux = CHEATS[cheat](tiles.honest())
    assert broken(examine(aux["sums"], aux["n"], aux["squares"]))
    found = judged(aux)
    assert found.code == "variance_law" and score(found.err, tiles.EXACT) == 0


def test_saying_how_few_there_were_does_not_help() -> None:
    found = judged(tiles.honest(samples=32))
    assert found.code == "too_few_samples" and score(found.err, tiles.EXACT) == 0


def test_noise_of_the_right_size_passes_the_law_and_not_the_replay() -> None:
    aux = counterfeit(tiles.honest())
    assert broken(examine(aux["sums"], aux["n"], aux["squares"])) == ""
    found = judged(aux)
    assert found.code == "pixels_differ" and score(found.err, tiles.EXACT) == 0


def test_an_enlarged_frame_looks_the_same_and_is_refused_all_the_same() -> None:
    work, small = Ball(256, 16), Ball(64, 16)
    whole = work.picture({"rows": np.stack([work.row(index)[0] for index in range(work.units)])})
    thumbnail = small.picture({"rows": np.stack([small.row(index)[0] for index in range(4)])})
    enlarged = thumbnail.repeat(4, axis=0).repeat(4, axis=1)
    assert distance(perceptual_hash(whole), perceptual_hash(enlarged)) <= 2
    assert judged(tiles.enlarged(tiles.honest(), 4)).code == "variance_law"


@pytest.mark.parametrize("index", range(4))
def test_the_honest_twin_passes(index: int) -> None:
    aux = tiles.honest(index)
    before, after = tiles.states(aux, index)
    found = compare(before, after, None, aux, tiles.replayed(index), tiles.EXACT)
    assert found.code == "within_tolerance" and score(found.err, tiles.EXACT) >= ACCEPT
