"""What a perceptual hash is good for, and what it is not."""

from __future__ import annotations

import numpy as np
import pytest

from node.guest.work.ball import Ball
from tests.verifier import tiles
from verifier.perceptual_hash import distance, perceptual_hash
from verifier.variance import broken, examine


def picture(side: int, samples: int, seed: bytes = bytes(32)) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    work = Ball(side, samples)
    work.seed = seed
    return work.picture({"rows": np.stack([work.row(index)[0] for index in range(work.units)])})


def test_equal_pictures_have_equal_hashes_and_others_do_not() -> None:
    one = picture(128, 16)
    assert distance(perceptual_hash(one), perceptual_hash(one)) == 0
    assert distance(perceptual_hash(one), perceptual_hash(picture(128, 16, b"\1" * 32))) <= 4
    assert distance(perceptual_hash(one), perceptual_hash(one[:, ::-1])) > 16
    assert perceptual_hash(one) < 1 << 64


def test_an_enlarged_thumbnail_has_the_hash_of_the_picture_and_breaks_the_law() -> None:
    """64 × 64 pixels shown as 256 × 256: a sixteenth of the work, and nothing that a hash of looks could see."""
    whole = picture(256, 16)
    small = picture(64, 16).repeat(4, axis=0).repeat(4, axis=1)
    assert distance(perceptual_hash(whole), perceptual_hash(small)) <= 2
    refused = []
    for index in range(4):
        aux = tiles.honest(index, 16)
        tile = {name: value.repeat(4, -3).repeat(4, -2) for name, value in aux.items() if value.ndim > 1}
        refused.append(broken(examine(tile["sums"], aux["n"], tile["squares"])))
    assert all(refused), refused


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (200, 40)])
def test_any_size_from_the_thumbnail_up(size: tuple[int, int]) -> None:
    gradient = np.linspace(0, 1, size[0] * size[1]).reshape(*size, 1).repeat(3, axis=2)
    assert 0 <= perceptual_hash(gradient) < 1 << 64
