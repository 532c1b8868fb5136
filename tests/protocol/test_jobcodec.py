"""protocol.jobcodec: a specification through JSON and back, and what is said about bad ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused
from protocol.jobcodec import PLAIN_DEPTH_MAX, spec_from_plain, spec_to_plain
from protocol.jobspec import Chunk, FileRef, GpuNeed, JobSpec, Resources
from protocol.units import Credits

FILES = (FileRef("main.py", bytes(range(32)), 12), FileRef("data/a.txt", b"\xff" * 32, 0, executable=True))
SPEC = JobSpec(
    "train",
    "torch",
    ("python main.py",),
    (Chunk((("LR", "0.1"),)), Chunk((("LR", "0.2"),))),
    FILES,
    env=(("A", "ü"),),
    reduce=("python best.py",),
    resources=Resources(gpu=GpuNeed("nvidia", ("H100",), 80 * 10**9, 80 << 30, 2)),
    spend_cap=Credits(2**62),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_through_json_and_back() -> None:
    text = json.dumps(spec_to_plain(SPEC))
    again = spec_from_plain(json.loads(text))
    assert again == SPEC
    assert wire.encode(again) == wire.encode(SPEC)
    assert isinstance(again.files[0].digest, bytes)


def test_digests_are_hexadecimal() -> None:
    files = spec_to_plain(SPEC)["files"]
    assert isinstance(files, list)
    assert files[1] == {"path": "data/a.txt", "digest": "ff" * 32, "size": 0, "executable": True}


def test_defaults_may_be_left_out() -> None:
    plain: dict[str, object] = {"name": "a", "runtime": "python", "commands": ["x"], "chunks": [{}]}
    assert spec_from_plain(plain) == JobSpec("a", "python", ("x",), (Chunk(),))


BAD: list[tuple[dict[str, object], str, str]] = [
    ({"name": 5}, "/name", "Expected `str`"),
    ({"name": "Capital"}, "/name", "regex"),
    ({"chunks": []}, "/chunks", "length >= 1"),
    ({"chunks": [{}] * 4097}, "/chunks", "length <= 4096"),
    ({"chunks": [{"envs": []}]}, "/chunks/0/envs", "unknown field"),
    ({"chunks": [{"env": [["A"]]}]}, "/chunks/0/env/0", "length 2"),
    ({"chunks": [{"env": [["A B", "x"]]}]}, "/chunks/0/env/0/0", "regex"),
    ({"files": {}}, "/files", "expected a list"),
    ({"files": ["a"]}, "/files/0", "expected an object"),
    ({"files": [{"path": "a", "digest": "00", "size": 1}]}, "/files/0/digest", "no digest"),
    ({"files": [{"path": "a", "digest": "FF" * 32, "size": 1}]}, "/files/0/digest", "no digest"),
    ({"files": [{"path": "a", "digest": 7, "size": 1}]}, "/files/0/digest", "no digest"),
    ({"files": [{"path": "a", "size": 1}]}, "/files/0", "missing required field"),
    ({"files": [{"path": "../a", "digest": "00" * 32, "size": 1}]}, "/files/0/path", ".."),
    ({"files": [{"path": "a", "digest": "00" * 32, "size": -1}]}, "/files/0/size", ">= 0"),
    ({"files": [{}] * 2049}, "/files", "at most 2048"),
    ({"resources": {"gpus": 1}}, "/resources/gpus", "unknown field"),
    ({"resources": {"gpu": {"count": 65}}}, "/resources/gpu/count", "<= 64"),
    ({"timeout": 1.5}, "/timeout", "got `float`"),
    ({"timeout": True}, "/timeout", "got `bool`"),
    ({"timeout": "120"}, "/timeout", "got `str`"),
    ({"spend_cap": 0}, "/spend_cap", ">= 1"),
    ({"spend_cap": 2**63}, "/spend_cap", "<="),
    ({"audit_ppm": 1_000_001}, "/audit_ppm", "<= 1000000"),
    ({"numeric": "D9"}, "/numeric", "Invalid enum value"),
    ({"a/b": 1}, "/a~1b", "unknown field"),
    ({"comands": []}, "/comands", "unknown field"),
    ({"runtime": "ruby"}, "/runtime", "no runtime"),
]


@pytest.mark.parametrize(("change", "pointer", "detail"), BAD, ids=[f"{n}-{b[1]}" for n, b in enumerate(BAD)])
def test_errors_have_a_json_pointer(change: dict[str, object], pointer: str, detail: str) -> None:
    with pytest.raises(Refused) as caught:
        spec_from_plain({**spec_to_plain(SPEC), **change})
    assert caught.value.numbers["pointer"] == pointer
    assert detail in caught.value.detail
    assert caught.value.code in ("bad_spec", "bad_path")
    assert caught.value.fix


def test_unknown_field_gets_a_suggestion() -> None:
    with pytest.raises(Refused) as caught:
        spec_from_plain({**spec_to_plain(SPEC), "comands": []})
    assert caught.value.fix == "Did you mean `commands`?"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Refused, match="runtime"):
        spec_from_plain({"name": "a"})


def test_depth_is_bounded() -> None:
    bomb: object = []
    for _ in range(PLAIN_DEPTH_MAX + 2):
        bomb = [bomb]
    with pytest.raises(Refused, match="deeper"):
        spec_from_plain({"name": bomb})


@given(key=st.sampled_from([*JobSpec.__struct_fields__, "x"]), value=json_values)
def test_plain_values_never_crash(key: str, value: object) -> None:
    try:
        spec = spec_from_plain({**spec_to_plain(SPEC), key: value})
    except Refused as error:
        is_about_others = error.numbers["pointer"] in ("", "/audit_ppm")  # Ports and a shell rule audits out.
        assert str(error.numbers["pointer"]).startswith(f"/{key}") or is_about_others
    else:
        assert spec_from_plain(spec_to_plain(spec)) == spec
