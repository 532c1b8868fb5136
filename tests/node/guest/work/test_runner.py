"""`shoal_work.run` in this process: without a node, and refusing what it cannot write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from node.guest.work.runner import run
from node.guest.work.tensors import Array, Malformed, State, decode
from node.guest.work.work import Aux, Work


class Doubling(Work):
    """2^i, and what a careless program would keep in itself."""

    units = 3

    def __init__(self) -> None:
        self.calls = 0

    def first(self) -> State:
        return {"x": np.array([1.0, -0.0])}

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        assert isinstance(state, Mapping)
        self.calls += 1
        return {"x": np.multiply(state["x"], 2.0)}, {"index": np.array([index])}

    def finish(self, state: State, out: Path) -> None:
        assert isinstance(state, Mapping)
        (out / "answer").write_text(str(float(state["x"][0])))


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PROOF", "UNITS", "SEED", "CHUNK", "IN", "REPLAY", "CHALLENGE"):
        monkeypatch.delenv(f"SHOAL_{name}", raising=False)
    monkeypatch.setenv("SHOAL_OUT", str(tmp_path))
    return tmp_path


def test_without_a_node_every_unit_is_computed_and_no_trace_is_kept(out: Path) -> None:
    run(Doubling())
    assert sorted(path.name for path in out.iterdir()) == ["answer", "state.shoal"]
    assert (out / "answer").read_text() == "8.0"


def test_a_run_leaves_every_state_and_says_how_large_its_steps_were(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_PROOF", "run")
    monkeypatch.setenv("SHOAL_UNITS", "2")
    run(Doubling())
    folder = out / ".shoal"
    names = {"0.state", "1.state", "2.state", "0.aux", "1.aux", "0.input", "1.input", "units.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "units.json").read_text()) == {"effects": [1.0, 2.0], "units": 2}
    assert (folder / "2.state").read_bytes() == (out / "state.shoal").read_bytes()
    first = decode((folder / "0.state").read_bytes())
    assert isinstance(first, Mapping) and not np.signbit(first["x"][1])


def test_a_replay_computes_the_units_that_are_asked_for(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_PROOF", "run")
    run(Doubling())
    (out / ".shoal").rename(out / "kept")
    opened = tmp_path / "in" / ".shoal" / "open"
    opened.mkdir(parents=True)
    (opened / "1.state").write_bytes((out / "kept" / "1.state").read_bytes())
    for name, value in {"PROOF": "replay", "IN": str(tmp_path / "in"), "REPLAY": "1", "CHALLENGE": "ab"}.items():
        monkeypatch.setenv(f"SHOAL_{name}", value)
    work = Doubling()
    run(work)
    assert work.calls == 1
    assert (out / ".shoal" / "1.state").read_bytes() == (out / "kept" / "2.state").read_bytes()
    assert not (out / ".shoal" / "0.state").exists()


class Strange(Doubling):
    """Puts out what has no canonical form."""

    def first(self) -> State:
        names: dict[str, Array] = {"a name with spaces": np.zeros(1)}
        return names


def test_a_state_without_a_form_ends_the_program() -> None:
    with pytest.raises(Malformed, match="no name for a tensor"):
        run(Strange())


class Endless(Doubling):
    """Claims no number at all."""

    def effect(self, before: State, after: State, aux: Aux) -> float:
        return float("nan")


def test_an_effect_that_is_no_number_is_marked(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_PROOF", "run")
    run(Endless())
    assert json.loads((out / ".shoal" / "units.json").read_text())["effects"] == [-1.0] * 3


def test_the_effect_of_a_shape_that_changes_is_the_largest() -> None:
    effect = Work().effect({"x": np.zeros(2)}, {"x": np.zeros(3)}, {})
    assert effect > 1e38
    assert Work().effect(b"a", b"b", {}) == 1.0
    assert Work().effect({"x": np.zeros(2)}, {"x": np.array([3.0, 4.0])}, {}) == 5.0
