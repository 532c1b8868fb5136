"""Attack 17: a picture that is honest but for one small region.

The defence: a commitment per tile, tiles that a beacon chooses, and in an opened tile all pixels of a chosen range.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from node.guest.work.ball import Ball
from tests.verifier import tiles
from tests.verifier.tiles import Tile
from verifier.challenge import indices
from verifier.rendering import compare

TILES = 64
SAMPLES = 8
CHALLENGES = 400


def tampered(aux: Tile, side: int, ranges: slice) -> Tile:
    """A square of `side` pixels painted over, in some ranges of samples."""
    changed = {name: array.copy() for name, array in aux.items()}
    changed["sums"][ranges, 12 : 12 + side, 20 : 20 + side] += 1 << 18
    return changed


def code(aux: Tile, challenge: bytes) -> str:
    before, after = tiles.states(aux)
    return compare(before, after, None, aux, tiles.replayed(challenge=challenge), tiles.EXACT).code


@pytest.mark.parametrize("side", [2, 8, 16])
def test_an_opened_tile_shows_any_region(side: int) -> None:
    aux = tampered(tiles.honest(), side, slice(None))
    assert {code(aux, bytes([number])) for number in range(6)} <= {"pixels_differ", "variance_law"}


def test_a_region_in_one_range_is_found_as_often_as_range_or_pixels_meet_it() -> None:
    aux = tampered(tiles.honest(), 4, slice(3, 4))
    challenges = [hashlib.sha256(b"%d" % number).digest() for number in range(60)]
    found = sum(code(aux, challenge) != "within_tolerance" for challenge in challenges)
    chance = 1 - (1 - 1 / 8) * math.comb(1024 - 16, 64) / math.comb(1024, 64)
    spread = math.sqrt(chance * (1 - chance) / len(challenges))
    assert abs(found / len(challenges) - chance) < 4 * spread


def test_a_tampered_tile_is_opened_at_the_rate_of_tiles() -> None:
    """The cheat knows which tiles are always opened, and paints another."""
    bad = 23
    opened = [indices(b"%032d" % number, TILES, SAMPLES, [1] * TILES, False) for number in range(CHALLENGES)]
    rate = sum(bad in chosen for chosen in opened) / CHALLENGES
    uniform = (SAMPLES - 3) / (TILES - 3)
    spread = math.sqrt(uniform * (1 - uniform) / CHALLENGES)
    assert uniform - 4 * spread < rate < SAMPLES / TILES + 4 * spread
    assert all({0, TILES - 1} <= set(chosen) or len(chosen) == SAMPLES for chosen in opened)


def test_a_tile_cannot_be_exchanged_after_its_unit() -> None:
    """Tile 1 painted over in the state after tile 2: the unit that did it does not add one row."""
    aux = tiles.honest()
    before, after = tiles.states(aux)
    after["rows"][1, 5:9, 5:9] = 0.9
    assert compare(before, after, None, aux, tiles.replayed(), tiles.EXACT).code == "rows_differ"


def test_states_that_were_exchanged_between_two_audited_units_are_noticed() -> None:
    work = Ball(64, 8)
    work.part = True
    rows = np.stack([work.row(index)[0] for index in range(3)])
    _, honest = work.replay({"rows": rows[:1]}, 1, b"")
    other = rows.copy()
    other[0, 5:9, 5:9] = 0.9
    _, torn = work.replay({"rows": other}, 3, b"")
    assert (honest["torn"][0], torn["torn"][0]) == (0, 1)
    aux = tiles.honest(3)
    before, after = tiles.states(aux, 3)
    found = compare(before, after, None, aux, {**tiles.replayed(3), "torn": torn["torn"]}, tiles.EXACT)
    assert found.code == "rows_differ"


def test_the_honest_twin_passes_every_challenge() -> None:
    assert {code(tiles.honest(), bytes([number])) for number in range(12)} == {"within_tolerance"}
