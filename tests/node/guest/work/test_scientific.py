"""Segments, streams and the words of `check` lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from node.guest.work import scientific
from node.guest.work.scientific import HISTORY, Darts, Segments, Stream, Streams, sum_root
from node.guest.work.tensors import Array, State, encode
from verifier.merkle_sum import SumTree
from verifier.streams import is_odd

KNOWN = "54170268693e27770b3f23b1ad98b9688ea5c629fd707ce4d5550c9517ff09a9"
"""What every honest machine counts."""


class Spring(Segments):
    """A mass on a spring, by leaps: its energy stays."""

    length = 50

    def begin(self) -> dict[str, Array]:
        return {"x": np.array([1.0]), "v": np.array([0.0])}

    def advance(self, state: dict[str, Array], index: int) -> tuple[dict[str, Array], list[float]]:
        x, v = np.asarray(state["x"], np.float64), np.asarray(state["v"], np.float64)
        for _ in range(self.length):
            v = v - 0.005 * x
            x = x + 0.01 * v
            v = v - 0.005 * x
        return {"x": x, "v": v}, [float(0.5 * (x * x + v * v)[0])]


def run(work: Segments | Streams, units: int) -> list[State]:
    work.units = units
    states: list[State] = [work.first()]
    for index in range(units):
        states.append(work.step(states[-1], index)[0])
    return states


def write(state: State, folder: Path) -> Path:
    (folder / "state.shoal").write_bytes(encode(state))
    return folder


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_counts_everywhere(threads: int) -> None:
    assert scientific.bitwise_run(threads) == KNOWN


def test_a_segment_adds_a_row_of_invariants_and_replays_from_its_state() -> None:
    states = run(Spring(), 6)
    last = states[6]
    assert isinstance(last, Mapping)
    assert last[HISTORY].shape == (6, 1)
    again, aux = Spring().replay(states[4], 4, b"")
    assert again is not None and encode(again) == encode(states[5])
    assert aux["invariants"].tolist() == last[HISTORY][4].tolist()
    moved = Spring().effect(states[4], states[5], {})
    before, after = states[4], states[5]
    assert isinstance(before, Mapping) and isinstance(after, Mapping)
    assert moved == pytest.approx(
        np.hypot(float(np.subtract(after["x"], before["x"])[0]), float(np.subtract(after["v"], before["v"])[0]))
    )


def test_streams_are_apart_and_add_up(tmp_path: Path) -> None:
    states = run(Darts(20_000), 16)
    last = states[16]
    assert isinstance(last, Mapping)
    rows = last["rows"].tolist()
    assert len({tuple(row) for row in rows}) > 10 and not is_odd([row[0] for row in rows], 20_000, np.pi / 4)
    Darts().finish(last, tmp_path)
    said = json.loads((tmp_path / "total.json").read_text())
    assert said["total"] == [sum(row[0] for row in rows), 16 * 20_000]
    assert abs(4 * said["total"][0] / said["total"][1] - np.pi) < 0.02
    scientific.check_total(write(last, tmp_path))


def test_a_total_that_is_not_the_sum_ends_the_check(tmp_path: Path) -> None:
    last = run(Darts(100), 4)[4]
    Darts().finish(last, tmp_path)
    write(last, tmp_path)
    said = json.loads((tmp_path / "total.json").read_text())
    for change in ({"total": [said["total"][0] + 1, 400]}, {"streams": 5}, {"root": "00" * 32}):
        (tmp_path / "total.json").write_text(json.dumps({**said, **change}))
        with pytest.raises(SystemExit, match="sum_differs"):
            scientific.check_total(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_the_tree_of_sums_is_the_verifiers(count: int) -> None:
    rows = [[number * number, -number] for number in range(count)]
    assert sum_root(rows) == SumTree([tuple(row) for row in rows]).root.hash


def test_a_stream_goes_on_where_it_stopped() -> None:
    whole, parts = Stream(b"s", 3), Stream(b"s", 3)
    once = whole.words(10)
    twice = [np.concatenate(pair) for pair in zip(parts.words(4), parts.words(6), strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(once, twice, strict=True))


def test_a_stream_gives_what_it_promised() -> None:
    class Wrong(Darts):
        def stream(self, source: Stream, number: int) -> list[int]:
            return [1 << 63, 0]

    with pytest.raises(ValueError, match="stream 0"):
        Wrong().row(0)


def test_drift_and_residual_end_the_check_when_they_are_too_large(tmp_path: Path) -> None:
    write(run(Spring(), 20)[20], tmp_path)
    scientific.check_drift(tmp_path, 0, 1e-3)
    with pytest.raises(SystemExit, match="drift"):
        scientific.check_drift(tmp_path, 0, 1e-9)
    matrix, solution = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, -1.0])
    write({"x": solution}, tmp_path)
    scientific.check_solution(tmp_path, matrix, matrix @ solution, "x", 1e-12)
    with pytest.raises(SystemExit, match="residual"):
        scientific.check_solution(tmp_path, matrix, matrix @ solution + 0.01, "x", 1e-6)


def test_what_is_no_number_passes_no_check() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(SystemExit):
            scientific.demand("drift", value, 1.0)
    assert scientific.drift(np.array([1.0, np.nan])) == scientific.drift(np.array([])) == np.inf
