"""The sandboxes of this host, for tests: a runner with one tier, and a skip with the reason where the tier cannot be used."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.blobs import BlobStore
from node.executors.ladder import ladder
from node.executors.wasm import engine_digest
from node.runner import Runner
from node.runtimes import Runtime, discover
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.jobspec import Chunk, FileRef, JobSpec, Manifest, Resources
from protocol.units import MIB, Digest, Micros, PeerId
from protocol.wire import decode, decoder

OWNER = PeerId(bytes(32))
SMALL = Resources(memory_bytes=256 * MIB, disk_bytes=8 * MIB, shm_bytes=4 * MIB, pids=64)


@dataclass
class Bench:
    """A runner with one tier, and what its jobs said."""

    blobs: BlobStore
    folder: Path
    runner: Runner
    lines: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def spec(
        self,
        *commands: str,
        files: Mapping[str, bytes] | None = None,
        runtime: str = "python",
        seconds: float = 30,
        resources: Resources = SMALL,
        env: Mapping[str, str] | None = None,
        fuel: int = 10**9,
    ) -> JobSpec:
        references = tuple(
            FileRef(path, self.blobs.put(content), len(content)) for path, content in sorted((files or {}).items())
        )
        return JobSpec(
            name="test",
            runtime=runtime,
            commands=commands,
            chunks=(Chunk(),),
            files=references,
            env=tuple((env or {}).items()),
            resources=resources,
            timeout=Micros(int(seconds * 1_000_000)),
            fuel=fuel,
        )

    async def run(self, spec: JobSpec, task: str = "job/0/1", chunk: int = 0, outputs: tuple[Digest, ...] = ()) -> RunDone:
        self.lines.clear()
        work = Run(task, spec, chunk, outputs, (), OWNER)
        return await self.runner.run(work, self.lines.extend, self.started.append)

    def output(self, done: RunDone) -> dict[str, bytes]:
        """What a run put out, by path."""
        manifest = decode(self.blobs.read(done.output, MIB), decoder(Manifest), OWNER, MIB)
        return {file.path: self.blobs.read(Digest(file.digest), 64 * MIB) for file in manifest.files}


@pytest.fixture(scope="session")
def runtimes() -> dict[str, Runtime]:
    return discover({}, engine_digest())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def bench_of(
    tmp_path: Path, images: Path, runtimes: dict[str, Runtime]
) -> Callable[[str], Awaitable[Bench]]:
    async def build(tier: str) -> Bench:
        executors = {executor.tier: executor for executor in ladder(f"test-{os.getpid()}", images)}
        if cause := await executors[tier].why_not():
            pytest.skip(f"tier {tier} cannot be used here: {cause}")
        blobs = BlobStore(tmp_path / "blobs", 1 << 30)
        runner = Runner(blobs, tmp_path / "tasks", [executors[tier]], runtimes, serves=[OWNER])
        await runner.clean()
        return Bench(blobs, tmp_path, runner)

    return build
