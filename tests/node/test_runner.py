"""The runner: choosing, laying out, collecting; with a real child process, which every Linux has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node import outputs
from node.blobs import BlobStore
from node.executors.bwrap import BwrapExecutor
from node.executors.child import ChildExecutor
from node.executors.interface import Executor
from node.executors.loglines import LOG_LINE_CHARS_MAX, LogLines, clean_line
from node.executors.wasm import WasmExecutor, engine_digest
from node.runner import Runner
from node.runtimes import discover
from protocol import wire
from protocol.effects import Run
from protocol.errors import LocalError, Refused
from protocol.jobspec import Chunk, FileRef, GpuNeed, JobSpec, Manifest, OutputFile, Resources
from protocol.units import MIB, Digest, PeerId

OWNER, STRANGER = PeerId(bytes(32)), PeerId(b"\1" * 32)
RUNTIMES = discover({}, engine_digest())


def spec_of(*commands: str, runtime: str = "python", **more: object) -> JobSpec:
    return JobSpec(name="test", runtime=runtime, commands=commands, chunks=(Chunk(),), **more)  # type: ignore[arg-type]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 64 * MIB)


@pytest.fixture
async def runner(tmp_path: Path, blobs: BlobStore) -> Runner:
    made = Runner(blobs, tmp_path / "tasks", [ChildExecutor(f"test-runner-{os.getpid()}")], RUNTIMES, serves=[OWNER])
    await made.clean()
    return made


def work_of(spec: JobSpec, *, chunk: int = 0, made: tuple[Digest, ...] = (), renter: PeerId = OWNER) -> Run:
    return Run("job/0/1", spec, chunk, made, (), renter)


def nothing(_: object) -> None:
    return None


def test_the_strongest_tier_that_can_do_it_is_chosen(tmp_path: Path, blobs: BlobStore) -> None:
    tiers: list[Executor] = [ChildExecutor("x"), WasmExecutor(), BwrapExecutor("x")]
    runner = Runner(blobs, tmp_path / "tasks", tiers, RUNTIMES, serves=[OWNER])
    assert runner.tiers == ("bwrap", "wasm", "child")
    assert runner.choose(spec_of("true"), STRANGER) == "bwrap"
    assert runner.choose(spec_of("m.wasm", runtime="wasm"), STRANGER) == "wasm"


@pytest.mark.parametrize(
    ("spec", "renter", "code"),
    [
        (spec_of("true"), STRANGER, "no_executor"),
        (spec_of("true", runtime="torch"), OWNER, "no_runtime"),
        (spec_of("true", runtime="image:debian"), OWNER, "no_executor"),
        (spec_of("m.wasm", runtime="wasm"), OWNER, "no_executor"),
        (spec_of("m.wasm", runtime="wasm", resources=Resources(gpu=GpuNeed(count=1))), OWNER, "no_executor"),
    ],
)
async def test_what_cannot_run_is_refused_with_a_reason(
    runner: Runner, spec: JobSpec, renter: PeerId, code: str
) -> None:
    with pytest.raises(Refused) as caught:
        runner.choose(spec, renter)
    assert caught.value.code == code
    assert caught.value.fix
    done = await runner.run(work_of(spec, renter=renter), nothing, nothing)
    assert done.reason == "sandbox"
    assert caught.value.detail in done.detail


async def test_only_the_owners_renters_run_without_isolation(runner: Runner) -> None:
    assert runner.choose(spec_of("true"), OWNER) == "child"
    assert runner.choose(spec_of("true"), STRANGER, serves=[STRANGER]) == "child"
    with pytest.raises(Refused, match="no isolation"):
        runner.choose(spec_of("true"), OWNER, serves=[STRANGER])


async def test_reduce_sees_every_chunks_output(runner: Runner, blobs: BlobStore) -> None:
    made = []
    for index in range(3):
        content = f"part {index}\n".encode()
        manifest = Manifest((OutputFile("deep/part", blobs.put(content), len(content)),))
        made.append(blobs.put(wire.encode(manifest)))
    chunks = (Chunk(), Chunk(), Chunk())
    spec = JobSpec(
        name="r",
        runtime="python",
        commands=("exit 1",),
        chunks=chunks,
        reduce=('cat $SHOAL_IN/chunks/*/deep/part > $SHOAL_OUT/all; test "$SHOAL_CHUNK/$SHOAL_CHUNKS" = 3/3',),
    )
    done = await runner.run(work_of(spec, chunk=3, made=tuple(made)), nothing, nothing)
    assert done.reason == "ok", done
    manifest = wire.decode(blobs.read(done.output, MIB), wire.decoder(Manifest), OWNER)
    assert blobs.read(Digest(manifest.files[0].digest), MIB) == b"part 0\npart 1\npart 2\n"


async def test_the_same_outputs_have_the_same_digest_in_any_order(runner: Runner) -> None:
    one = await runner.run(
        work_of(spec_of("cd $SHOAL_OUT; echo 1 > b; mkdir c; echo 2 > c/a; echo 3 > a")), nothing, nothing
    )
    two = await runner.run(
        work_of(spec_of("cd $SHOAL_OUT; echo 3 > a; mkdir c; echo 2 > c/a; echo 1 > b")), nothing, nothing
    )
    assert one.reason == two.reason == "ok"
    assert one.output == two.output
    assert one.output_bytes == 6


async def test_large_outputs_are_kept_too(runner: Runner, blobs: BlobStore) -> None:
    done = await runner.run(work_of(spec_of("head -c 300000 /dev/zero > $SHOAL_OUT/big")), nothing, nothing)
    assert (done.reason, done.output_bytes) == ("ok", 300_000)
    assert blobs.has(wire.digest(bytes(300_000)))


async def test_a_job_cannot_change_a_blob_through_its_inputs(runner: Runner, blobs: BlobStore) -> None:
    name = blobs.put(b"precious")
    spec = spec_of("chmod 666 $SHOAL_IN/x; echo bad > $SHOAL_IN/x", files=(FileRef("x", name, 8),))
    await runner.run(work_of(spec), nothing, nothing)
    assert blobs.read(name, MIB) == b"precious"


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "./a", "a/", "a\nb", "a\\b", "..", "a\0b"])
async def test_inputs_stay_in_their_folder(runner: Runner, blobs: BlobStore, path: str) -> None:
    spec = spec_of("true", files=(FileRef(path, blobs.put(b"x"), 1),))
    assert (await runner.run(work_of(spec), nothing, nothing)).reason == "inputs"


async def test_clashing_or_missing_inputs_are_explained(runner: Runner, blobs: BlobStore) -> None:
    name = blobs.put(b"x")
    clash = spec_of("true", files=(FileRef("a", name, 1), FileRef("a/b", name, 1)))
    missing = spec_of("true", files=(FileRef("a", b"\7" * 32, 1),))
    assert (await runner.run(work_of(clash), nothing, nothing)).reason == "inputs"
    done = await runner.run(work_of(missing), nothing, nothing)
    assert (done.reason, "is not here" in done.detail) == ("inputs", True)


async def test_executable_inputs_can_be_executed(runner: Runner, blobs: BlobStore) -> None:
    name = blobs.put(b"#!/bin/sh\necho ran\n")
    lines: list[str] = []
    spec = spec_of("$SHOAL_IN/tool", files=(FileRef("tool", name, 19, executable=True),))
    assert (await runner.run(work_of(spec), lines.extend, nothing)).reason == "ok"
    assert lines == ["ran"]


async def test_an_output_larger_than_the_limit_is_refused_even_when_sparse(runner: Runner) -> None:
    spec = spec_of("truncate -s 900K $SHOAL_OUT/a; truncate -s 900K $SHOAL_OUT/b", resources=Resources(disk_bytes=MIB))
    done = await runner.run(work_of(spec), nothing, nothing)
    assert (done.reason, "1048576 bytes" in done.detail) == ("disk", True)


async def test_a_full_store_is_the_nodes_own_fault(tmp_path: Path) -> None:
    small = BlobStore(tmp_path / "small", 1000)
    runner = Runner(small, tmp_path / "tasks", [ChildExecutor(f"test-full-{os.getpid()}")], RUNTIMES, serves=[OWNER])
    await runner.clean()
    done = await runner.run(work_of(spec_of("head -c 5000 /dev/zero > $SHOAL_OUT/x")), nothing, nothing)
    assert done.reason == "sandbox"
    assert "5000 bytes do not fit" in done.detail


async def test_leftovers_are_removed_at_start_up(tmp_path: Path, blobs: BlobStore) -> None:
    locked = tmp_path / "tasks" / "t-old" / "out" / "locked"
    locked.mkdir(parents=True)
    (locked / "x").write_text("x")
    locked.chmod(0)
    await Runner(blobs, tmp_path / "tasks", [], RUNTIMES).clean()
    assert not list((tmp_path / "tasks").iterdir())


async def test_one_task_runs_once_and_unknown_stops_do_nothing(runner: Runner) -> None:
    runner.stop("nobody")
    started = trio.Event()
    spec = spec_of("sleep 3600")

    async def first() -> None:
        done = await runner.run(work_of(spec), nothing, lambda tier: started.set())
        assert done.reason == "stopped"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await started.wait()
        with pytest.raises(LocalError):
            await runner.run(work_of(spec), nothing, nothing)
        runner.stop("job/0/1")


@given(st.binary(max_size=3000), st.lists(st.integers(1, 50), max_size=8))
def test_lines_are_the_same_however_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    whole: list[str] = []
    pieces: list[str] = []
    once, often = LogLines(whole.append), LogLines(pieces.append)
    once.feed(data)
    once.close()
    for cut in cuts:
        often.feed(data[:cut])
        data = data[cut:]
    often.feed(data)
    often.close()
    assert whole == pieces


@given(st.binary(max_size=20_000))
def test_clean_lines_are_safe_and_short(data: bytes) -> None:
    line = clean_line(data)
    assert len(line) <= LOG_LINE_CHARS_MAX
    assert not [char for char in line if ord(char) < 32 and char != "\t"]
    line.encode()


@given(st.text(max_size=40))
def test_no_input_path_leaves_its_folder(text: str) -> None:
    try:
        path = outputs.input_path(text)
    except Refused:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert path.as_posix() == text
