"""specs/35-rendering-proof.md against the guest's tiles and the verifier."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.guest.work import counter_random
from node.guest.work import rendering as guest
from tests.verifier import tiles
from verifier import comparable, rendering, variance

SPEC = specs.load("35-rendering-proof")
MODULES = (guest, counter_random, rendering, variance)
words = st.integers(0, 2**32 - 1)
colours = st.tuples(*[st.floats(0, 100)] * 3)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        holders = [module for module in MODULES if hasattr(module, name)]
        assert holders, name
        assert {getattr(module, name) for module in holders} == {value}, name


def test_every_code_is_explained() -> None:
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (rendering, comparable))
    given_codes = set(re.findall(r'"(\w+)", fault\)', source)) | {"within_tolerance"}
    given_codes |= set(re.findall(r'Comparison\(math.inf, "(\w+)"', source))
    given_codes |= set(re.findall(r'else "(\w+)", said\)', source))
    assert {row["code"] for row in SPEC.table("codes")} == given_codes


def test_tensors_are_those_that_a_unit_tells() -> None:
    assert {row["tensor"] for row in SPEC.table("state and aux")} == set(tiles.honest())


@given(key=st.tuples(words, words), counter=st.tuples(words, words, words, words))
def test_the_generator(key: tuple[int, int], counter: tuple[int, int, int, int]) -> None:
    assert SPEC.functions["philox"](key, counter) == tuple(int(word) for word in counter_random.philox(key, *counter))


@given(pixels=st.lists(st.tuples(colours, colours), min_size=1, max_size=40))
def test_distance(pixels: list[tuple[tuple[float, float, float], tuple[float, float, float]]]) -> None:
    claimed, replayed = [one for one, _ in pixels], [other for _, other in pixels]
    said = SPEC.functions["distance"](claimed, replayed)
    assert isinstance(said, float)
    found = rendering.apart(np.array(claimed), np.array(replayed))
    assert found == pytest.approx(said, rel=1e-9) or math.isinf(found) == math.isinf(said) is True


def test_the_ratio_between_ranges() -> None:
    aux = tiles.honest()
    sums, squares = aux["sums"].astype(np.float64), aux["squares"].astype(np.float64)
    places = [(0, 20, 2), (3, 20, 0), (5, 30, 1)]
    tile = np.stack([sums[:, y, x, c] for y, x, c in places], axis=1)
    said = [SPEC.functions["between"](tile[:, k].tolist(), [8] * 8, squares[at]) for k, at in enumerate(places)]
    one = np.broadcast_to(tile[:, None, :], (8, 200, 3))[..., None, :].copy()
    noise = variance.examine(
        one, aux["n"], np.broadcast_to(np.array([squares[at] for at in places]), (200, 1, 3)).copy()
    )
    assert noise.between == pytest.approx(np.mean(np.array(said, np.float64)), rel=1e-9)
