"""specs/05-job.md against protocol.jobspec, jobrules, jobcodec and gpu_models."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import jobcodec, jobrules, jobspec
from protocol.errors import Refused
from protocol.gpu_models import card_problem
from protocol.jobspec import Chunk, FileRef, GpuNeed, JobSpec, Resources

SPEC = specs.load("05-job")
PATHS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "chunks", "c\\d", "e\n"]), min_size=1, max_size=4).map(
    "/".join
)


def test_constants_are_those_of_the_code() -> None:
    found: dict[str, object] = {}
    for module in (jobspec, jobrules, jobcodec):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == dict(SPEC.constants)


@pytest.mark.parametrize(("kind", "heading"), [(JobSpec, "Messages"), (Resources, "Resources")])
def test_fields_and_defaults_are_those_of_the_code(kind: type[msgspec.Struct], heading: str) -> None:
    rows = {row["field"]: row["default"] for row in SPEC.table(heading)}
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    assert list(rows) == list(fields)
    for name, default in fields.items():
        if isinstance(default, int | str):
            assert rows[name] == str(default), name
        elif default is msgspec.NODEFAULT:
            assert rows[name] == "–", name


@given(chunks=st.integers(1, 9), lines=st.integers(0, 3))
def test_steps(chunks: int, lines: int) -> None:
    spec = JobSpec("a", "python", ("x",), (Chunk(),) * chunks, reduce=("y",) * lines)
    assert SPEC.functions["steps"](chunks, lines) == spec.steps


@given(path=PATHS | st.text(max_size=8))
def test_paths(path: str) -> None:
    assert SPEC.functions["is_path"](path) == (not jobrules.path_problem(path))


@given(paths=st.lists(st.sampled_from(["a", "a/b", "a/b/c", "d", "d/e", "chunks/0", "f"]), max_size=5))
def test_trees(paths: list[str]) -> None:
    spec = JobSpec("a", "python", ("x",), (Chunk(),), tuple(FileRef(path, bytes(32), 0) for path in paths))
    assert SPEC.functions["is_tree"](paths) == is_accepted(spec)


@given(
    runtime=st.sampled_from(["python", "torch", "image:", "image:a:1", "image:a b", "image:a\t", "Python", "", "image"])
)
def test_runtimes(runtime: str) -> None:
    assert SPEC.functions["is_runtime"](runtime) == is_accepted(JobSpec("a", runtime, ("x",), (Chunk(),)))


@given(
    vendor=st.sampled_from(["", "nvidia", "amd"]),
    names=st.sampled_from([(), ("RTX4090",), ("H100", "A100")]),
    low=st.integers(0, 3),
    high=st.integers(0, 3),
    card=st.tuples(st.sampled_from(["nvidia", "amd"]), st.sampled_from(["RTX4090", "A100"]), st.integers(0, 4)),
)
def test_cards(vendor: str, names: tuple[str, ...], low: int, high: int, card: tuple[str, str, int]) -> None:
    need = GpuNeed(vendor, names, low, high, 1)
    assert SPEC.functions["is_answered"](vendor, names, low, high, card) == (not card_problem(need, *card))


def is_accepted(spec: JobSpec) -> bool:
    try:
        jobrules.check(spec)
    except Refused:
        return False
    return True
