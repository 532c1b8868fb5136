"""protocol.jobspec and protocol.jobrules: one encoding, hostile bytes, and every rule that types cannot say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import jobrules, wire
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import Chunk, FileRef, GpuNeed, JobSpec, Manifest, OutputFile, Resources
from protocol.units import PeerId

SENDER = PeerId(bytes(32))
SPECS = wire.decoder(JobSpec)
PLAIN = JobSpec("render", "python", ("python main.py",), (Chunk(), Chunk((("A", "1"),))))
MODULE = FileRef("m.wasm", bytes(32), 8)
WASM = JobSpec("w", "wasm", ("m.wasm 1",), (Chunk(),), (MODULE,), numeric="D0")

pairs = st.lists(
    st.tuples(st.from_regex(r"[A-RT-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), st.text(max_size=9)),
    max_size=3,
    unique_by=lambda pair: pair[0],
).map(lambda found: tuple((name, value.replace("\0", "")) for name, value in found))
specs = st.builds(
    JobSpec,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    runtime=st.sampled_from(["python", "torch", "image:python:3.12-slim"]),
    commands=st.lists(st.just("python main.py"), min_size=1, max_size=3).map(tuple),
    chunks=st.lists(st.builds(Chunk, env=pairs), min_size=1, max_size=4).map(tuple),
    files=st.sets(st.from_regex(r"[d-z]{1,5}(/[a-z]{6,8})?", fullmatch=True), max_size=4).map(
        lambda paths: tuple(
            FileRef(f"in{number}/{path}", bytes(32), number) for number, path in enumerate(sorted(paths))
        )
    ),
    env=pairs,
    reduce=st.sampled_from([(), ("python merge.py",)]),
    resources=st.builds(Resources, gpu=st.builds(GpuNeed, count=st.integers(0, 64))),
    timeout=st.integers(100_000, 86_400_000_000),
    estimate=st.integers(1_000, 86_400_000_000),
    spend_cap=st.integers(1, 2**62),
    audit_ppm=st.integers(0, 1_000_000),
    numeric=st.sampled_from(["D0", "D2"]),
)


@given(spec=specs)
def test_one_encoding_and_back(spec: JobSpec) -> None:
    data = wire.encode(spec)
    again = wire.decode(data, SPECS, SENDER)
    assert again == spec
    assert wire.encode(again) == data
    jobrules.check(again)


@given(data=st.binary(max_size=200), cut=st.integers(0, 400), spec=specs)
def test_bytes_never_crash(data: bytes, cut: int, spec: JobSpec) -> None:
    for hostile in (data, wire.encode(spec)[:cut] + data):
        try:
            assert wire.encode(wire.decode(hostile, SPECS, SENDER)) == hostile
        except RemoteViolation as error:
            assert error.code in ("malformed", "not_canonical", "over_limit")


def test_steps_count_the_reduce_step() -> None:
    assert PLAIN.steps == 2
    assert msgspec.structs.replace(PLAIN, reduce=("x",)).steps == 3


def test_size_of_a_manifest() -> None:
    assert Manifest((OutputFile("a", bytes(32), 3), OutputFile("b", bytes(32), 4))).size == 7


BROKEN: list[tuple[JobSpec, dict[str, object], str]] = [
    (PLAIN, {"runtime": "ruby"}, "/runtime"),
    (PLAIN, {"runtime": "image:"}, "/runtime"),
    (PLAIN, {"runtime": "image:a b"}, "/runtime"),
    (PLAIN, {"commands": ()}, "/commands"),
    (PLAIN, {"commands": ("a", " ")}, "/commands/1"),
    (PLAIN, {"reduce": ("a\0b",)}, "/reduce/0"),
    (PLAIN, {"files": (FileRef("/etc/passwd", bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("a/../../b", bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("a\\b", bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("a\nb", bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("chunks/0/a", bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("a", bytes(32), 1), FileRef("a", bytes(32), 2))}, "/files/1/path"),
    (PLAIN, {"files": (FileRef("a/b", bytes(32), 1), FileRef("a", bytes(32), 2))}, "/files/0/path"),
    (PLAIN, {"files": (FileRef("ü" * 200, bytes(32), 1),)}, "/files/0/path"),
    (PLAIN, {"env": (("A", "1"), ("A", "2"))}, "/env/1/0"),
    (PLAIN, {"env": (("SHOAL_CHUNK", "1"),)}, "/env/0/0"),
    (PLAIN, {"env": (("A", "\0"),)}, "/env/0/1"),
    (PLAIN, {"chunks": (Chunk(), Chunk((("SHOAL_OUT", "/"),)))}, "/chunks/1/env/0/0"),
    (PLAIN, {"resources": Resources(gpu=GpuNeed("", (), 5, 4, 1))}, "/resources/gpu/memory_bytes_max"),
    (WASM, {"numeric": "D2"}, "/numeric"),
    (WASM, {"commands": ("m.wasm", "m.wasm")}, "/commands"),
    (WASM, {"commands": ("n.wasm",)}, "/commands/0"),
    (WASM, {"commands": ("'m.wasm",)}, "/commands/0"),
    (WASM, {"reduce": ("sh merge.sh",)}, "/reduce/0"),
]


@pytest.mark.parametrize(("spec", "change", "pointer"), BROKEN, ids=[f"{n}-{b[2]}" for n, b in enumerate(BROKEN)])
def test_rules_name_the_place(spec: JobSpec, change: dict[str, object], pointer: str) -> None:
    jobrules.check(spec)
    with pytest.raises(Refused) as caught:
        jobrules.check(msgspec.structs.replace(spec, **change))
    assert caught.value.numbers["pointer"] == pointer
    assert caught.value.fix
