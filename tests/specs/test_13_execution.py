"""specs/13-execution.md against the runner, the outputs and the executors."""

from __future__ import annotations

from typing import get_type_hints

from hypothesis import given
from hypothesis import strategies as st

import specs
from node import outputs, runner
from node.executors import interface, loglines, wasm
from node.protection import agent, application, contents, hosting, layout, parking, rehearsal
from node.proving import program
from protocol.completions import RunDone
from protocol.errors import Refused, Unavailable

SPEC = specs.load("13-execution")


def test_constants_are_those_of_the_code() -> None:
    protection = (agent, application, contents, hosting, layout, parking, rehearsal)
    modules = (interface, loglines, outputs, runner, wasm, *protection, program)
    found = {name: next(getattr(m, name) for m in modules if hasattr(m, name)) for name in SPEC.constants}
    assert found == SPEC.constants


def test_tiers_are_in_this_order() -> None:
    rows = SPEC.table("tiers")
    assert tuple(row["tier"] for row in rows) == interface.TIERS
    assert {row["tier"] for row in rows if row["isolates"] == "yes"} == interface.ISOLATING


def test_refused_imports_are_those_of_the_code() -> None:
    assert {row["refused"]: row["why"] for row in SPEC.table("webassembly")} == wasm.REFUSED_IMPORTS


def test_defaults_are_those_of_the_view() -> None:
    view = {name: row["value"] for row in SPEC.table("sandbox view") for name in row["variable"].split(", ")}
    assert {name: view[name] for name in runner.DEFAULTS} == runner.DEFAULTS


def test_every_reason_is_one_of_the_ends() -> None:
    reasons = {row["reason"] for row in SPEC.table("ends")}
    assert "reason" in get_type_hints(RunDone)
    refusals = [Refused("", code=code) for code in ("inputs", "disk", "output", "no_runtime")]
    named = {hosting.exit_for(error).reason for error in refusals}
    assert named | {hosting.exit_for(Unavailable("")).reason} <= reasons


@given(st.text(alphabet="ab./\\\n\0é", max_size=12))
def test_input_paths(path: str) -> None:
    try:
        outputs.input_path(path)
    except Refused:
        assert not SPEC.functions["is_input_path"](path)
    else:
        assert SPEC.functions["is_input_path"](path)


@given(st.text(alphabet="ab./\\\n\x1bé", max_size=12) | st.integers(500, 520).map(lambda count: "x" * count))
def test_output_paths(path: str) -> None:
    try:
        outputs.output_path(path)
    except Refused:
        assert not SPEC.functions["is_output_path"](path)
    else:
        assert SPEC.functions["is_output_path"](path)


@given(st.binary(max_size=9_000) | st.text(max_size=3_000).map(str.encode))
def test_log_lines(raw: bytes) -> None:
    assert loglines.clean_line(raw) == SPEC.functions["clean"](raw)


@given(
    st.text(alphabet="ab./\\\n", max_size=12)
    | st.integers(475, 485).map(lambda count: "x" * count)
    | st.just("a/" * 40)
)
def test_part_paths(path: str) -> None:
    try:
        contents._checked_input(path)
    except Refused:
        assert not SPEC.functions["is_part_path"](path)
    else:
        assert SPEC.functions["is_part_path"](path)
