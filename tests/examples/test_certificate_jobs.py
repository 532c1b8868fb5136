"""The two certificate examples as a provider and an auditor run them: real answers hold, others do not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from node.blobs import BlobStore
from node.executors.child import ChildExecutor
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import discover
from protocol import jobrules, wire
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.jobspec import FileRef, JobSpec, Manifest, OutputFile
from protocol.units import MIB, Digest, PeerId
from shoal.jobfile import read

EXAMPLES = Path(__file__).parents[2] / "examples" / "certificate"
OWNER = PeerId(bytes(32))


class Stage:
    """One example, its files in a store, and a runner."""

    def __init__(self, name: str, folder: Path) -> None:
        self.blobs = BlobStore(folder / "blobs", 64 * MIB)
        self.runner = Runner(
            self.blobs,
            folder / "tasks",
            [ChildExecutor(f"certificates-{os.getpid()}")],
            discover({}, engine_digest()),
            serves=[OWNER],
        )
        spec = read((EXAMPLES / name / "job.yml").read_text(), EXAMPLES / name, {}).spec
        files = []
        for file in spec.files:
            data = (EXAMPLES / name / file.path).read_bytes()
            files.append(FileRef(file.path, self.blobs.put(data), len(data)))
        self.spec: JobSpec = msgspec.structs.replace(spec, files=tuple(files))
        jobrules.check(self.spec)

    async def solve(self, chunk: int) -> RunDone:
        """What a provider puts out."""
        await self.runner.clean()
        work = Run(f"solve/{chunk}", self.spec, chunk, (), (), OWNER)
        done = await self.runner.run(work, lambda lines: None, lambda tier: None)
        assert done.reason == "ok", done
        return done

    async def check(self, chunk: int, output: Digest) -> RunDone:
        """What an auditor says of it."""
        work = Run("check", self.spec, chunk, (), (), OWNER, result=output)
        return await self.runner.run(work, lambda lines: None, lambda tier: None)

    def changed(self, output: Digest, content: bytes) -> Digest:
        """The same output with another file."""
        manifest = msgspec.msgpack.decode(self.blobs.read(output, MIB), type=Manifest)
        (file,) = manifest.files
        other = OutputFile(file.path, self.blobs.put(content), len(content))
        return self.blobs.put(wire.encode(Manifest((other,))))

    def content(self, output: Digest) -> bytes:
        """Of its one file."""
        (file,) = msgspec.msgpack.decode(self.blobs.read(output, MIB), type=Manifest).files
        return self.blobs.read(Digest(file.digest), MIB)


@pytest.mark.parametrize("name", ["sat", "assignment"])
async def test_an_answer_holds_for_its_chunk_and_for_no_other(name: str, tmp_path: Path) -> None:
    stage = Stage(name, tmp_path)
    done = await stage.solve(1)
    holds = await stage.check(1, done.output)
    assert (holds.reason, holds.output) == ("ok", done.output)
    assert (await stage.check(2, done.output)).reason == "exit"


async def test_one_wrong_bit_breaks_a_model(tmp_path: Path) -> None:
    stage = Stage("sat", tmp_path)
    done = await stage.solve(0)
    model = stage.content(done.output)
    flipped = [
        model[:at] + (b"1" if model[at : at + 1] == b"0" else b"0") + model[at + 1 :] for at in range(0, 250, 25)
    ]
    reasons = [(await stage.check(0, stage.changed(done.output, other))).reason for other in flipped]
    assert "exit" in reasons  # Some variables matter to no clause; most do.
    for other in (b"", model[:-1], model + b"0", b"2" * 250 + b"\n"):
        assert (await stage.check(0, stage.changed(done.output, other))).reason == "exit"


async def test_a_dearer_plan_and_invented_prices_prove_nothing(tmp_path: Path) -> None:
    stage = Stage("assignment", tmp_path)
    done = await stage.solve(0)
    found = json.loads(stage.content(done.output))
    swapped = {**found, "plan": [found["plan"][1], found["plan"][0], *found["plan"][2:]]}
    higher = {**found, "workers": [found["workers"][0] + 1, *found["workers"][1:]]}
    doubled = {**found, "plan": [found["plan"][1], *found["plan"][1:]]}
    odd = {**found, "jobs": [float(found["jobs"][0]), *found["jobs"][1:]]}
    wrongs: list[object] = [swapped, higher, doubled, odd, [], {"plan": 1}]
    for other in wrongs:
        wrong = stage.changed(done.output, json.dumps(other).encode())
        assert (await stage.check(0, wrong)).reason == "exit"
