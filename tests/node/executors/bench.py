"""A runner with one tier for tests: builds jobs, runs them, and remembers what they said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.blobs import BlobStore
from node.runner import Runner
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.jobspec import Chunk, FileRef, JobSpec, Manifest, Resources
from protocol.units import MIB, Digest, Micros, PeerId
from protocol.wire import decode, decoder

IN_USER_NAMESPACE = "bwrap in a user namespace"
"""The tier bwrap as it runs without root."""
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
    talked: trio.Event = field(default_factory=trio.Event)
    """Set when the job has said something."""

    def spec(
        self,
        *commands: str,
        files: Mapping[str, bytes] | None = None,
        runtime: str = "python",
        seconds: float = 600,
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

    async def run(
        self, spec: JobSpec, task: str = "job/0/1", chunk: int = 0, outputs: tuple[Digest, ...] = ()
    ) -> RunDone:
        self.lines.clear()
        work = Run(task, spec, chunk, outputs, (), OWNER)

        def on_log(lines: tuple[str, ...]) -> None:
            self.lines.extend(lines)
            self.talked.set()

        return await self.runner.run(work, on_log, self.started.append)

    def output(self, done: RunDone) -> dict[str, bytes]:
        """What a run put out, by path."""
        manifest = decode(self.blobs.read(done.output, MIB), decoder(Manifest), OWNER, MIB)
        return {file.path: self.blobs.read(Digest(file.digest), 64 * MIB) for file in manifest.files}


BenchOf = Callable[[str], Awaitable[Bench]]
