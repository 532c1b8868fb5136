"""Tiles: what a unit leaves, what an auditor computes of it, and files without a compressor."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from node.guest.work.ball import Ball
from node.guest.work.rendering import bitwise_run, fixed, plain_png, portable_float_map
from node.guest.work.rows import ROWS, TORN
from node.guest.work.tensors import Array, State
from node.guest.work.work import Aux

KNOWN = "677c54a634121d7f3e4df24af0a2533a9a8909e1da375e633f4afbdfdfe277ee"
"""What every honest machine computes."""


def rendered(work: Ball) -> tuple[list[State], list[Aux]]:
    states, told = [work.first()], []
    for index in range(work.units):
        state, aux = work.step(states[-1], index)
        states.append(state)
        told.append(aux)
    return states, told


def rows(state: State) -> Array:
    assert isinstance(state, Mapping)
    return state[ROWS]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_bits_everywhere(threads: int) -> None:
    assert bitwise_run(threads) == KNOWN


def test_every_unit_adds_its_tile_and_a_replay_gives_it_again() -> None:
    work = Ball(64, 16)
    states, _ = rendered(work)
    assert [len(rows(state)) for state in states] == [0, 1, 2, 3, 4]
    for index in (1, 3):
        after, _ = Ball(64, 16).replay(states[index], index, b"seed")
        assert after is not None
        assert rows(after).tobytes() == rows(states[index + 1]).tobytes()


def test_a_part_is_what_the_whole_has_there() -> None:
    work = Ball(64, 64)
    work.part = True
    states, told = rendered(work)
    for seed in (b"one", b"other"):
        nothing, part = work.replay(states[2], 2, seed)
        assert nothing is None and not part[TORN][0]
        chosen, which = part["pixels"], int(part["range"][0])
        flat = told[2]["sums"].reshape(8, -1, 3)
        assert len(set(chosen.tolist())) == 64
        assert np.array_equal(part["pixel_sums"], flat[:, chosen])
        assert np.array_equal(part["pixel_squares"], told[2]["squares"].reshape(-1, 3)[chosen])
        assert np.array_equal(part["range_sums"], told[2]["sums"][which])
    assert not np.array_equal(work.chosen(2, b"one"), work.chosen(2, b"other"))


def test_a_crop_is_a_square_inside_the_tile() -> None:
    work = Ball()
    work.crop = 8
    corners = set()
    for seed in range(64):
        ys, xs = np.divmod(work.chosen(0, bytes([seed])), 32)
        assert (np.ptp(xs), np.ptp(ys), len(xs)) == (7, 7, 64)
        corners.add((int(xs[0]), int(ys[0])))
    assert len(corners) > 50 and max(max(corner) for corner in corners) <= 24


def test_states_that_do_not_continue_one_another_are_noticed() -> None:
    work = Ball(64, 8)
    states, _ = rendered(work)
    other = rows(states[3]).copy()
    other[1] += 0.5
    auditor = Ball(64, 8)
    auditor.replay(states[2], 2, b"")
    after, _ = auditor.replay({ROWS: other}, 3, b"")
    assert after is not None and not len(rows(after))
    short, _ = Ball(64, 8).replay(states[1], 3, b"")
    assert short is not None and not len(rows(short))


@pytest.mark.parametrize("state", [b"junk", {}, {ROWS: np.zeros(3)}, {ROWS: np.zeros((2, 32, 32, 3))}])
def test_a_state_of_something_else_is_an_answer_and_no_crash(state: State) -> None:
    after, _ = Ball(64, 8).replay(state, 2, b"")
    assert after is not None and not len(rows(after))


def test_the_claimed_effect_is_one_row_or_more_when_others_change() -> None:
    work = Ball(64, 8)
    states, told = rendered(work)
    assert work.effect(states[1], states[2], told[1]) == 1.0
    changed = rows(states[2]).copy()
    changed[0] = 0
    assert work.effect(states[1], {ROWS: changed}, told[1]) == 2.0


def test_light_is_cut_and_counted_in_whole_steps() -> None:
    assert fixed(np.array([-1.0, 0.0, 0.5, 1e9, np.inf])).tolist() == [0, 0, 1 << 19, 1 << 24, 1 << 24]


def test_files_can_be_read_back(tmp_path: Path) -> None:
    work = Ball(64, 8)
    states, _ = rendered(work)
    work.finish(states[-1], tmp_path)
    picture = work.picture(states[-1])
    head, _, body = (tmp_path / "region.pfm").read_bytes().partition(b"-1.0\n")
    assert head == b"PF\n64 64\n"
    assert np.array_equal(np.frombuffer(body, "<f4").reshape(64, 64, 3)[::-1], picture)
    assert picture[40, 8].tolist() == rows(states[-1])[2][8, 8].tolist()
    data = (tmp_path / "region.png").read_bytes()
    length = struct.unpack(">I", data[33:37])[0]
    lines = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8).reshape(64, 1 + 64 * 3)
    assert not lines[:, 0].any()
    assert np.abs(np.square(lines[:, 1:] / 255.0) - np.minimum(picture.reshape(64, -1), 1)).max() < 0.01


def test_a_large_picture_takes_several_blocks() -> None:
    picture = np.linspace(0, 1, 200 * 200 * 3, dtype=np.float32).reshape(200, 200, 3)
    data = plain_png(picture)
    assert len(zlib.decompress(data[41:-16])) == 200 * 601
    assert len(portable_float_map(picture)) == len(b"PF\n200 200\n-1.0\n") + picture.nbytes


def test_samples_must_make_equal_ranges() -> None:
    with pytest.raises(ValueError, match="ranges"):
        Ball(64, 12).row(0)
