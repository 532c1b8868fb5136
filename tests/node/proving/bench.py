"""Runners of three tiers over one store, and short words for what tests of unit jobs do with them."""

from __future__ import annotations

import os
from pathlib import Path

from node.blobs import BlobStore
from node.executors.bwrap import BwrapExecutor
from node.executors.child import ChildExecutor
from node.executors.interface import Executor
from node.executors.wasm import WasmExecutor
from node.runner import Runner
from node.runtimes import Runtime
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, Chunk, FileRef, JobSpec
from protocol.proof import Leaf, Proof, Trace
from protocol.trace import decode_trace
from protocol.units import MIB, Digest, PeerId

OWNER = PeerId(bytes(32))


class Bench:
    """One runner with its store, and short words for what tests do with it."""

    def __init__(self, folder: Path, runtimes: dict[str, Runtime]) -> None:
        self.lines: list[str] = []
        self.blobs = BlobStore(folder / "blobs", 256 * MIB)
        label = f"test-proving-{os.getpid()}"  # Cleaning up kills what has this label, of other test processes too.
        tiers: list[Executor] = [ChildExecutor(label), WasmExecutor(), BwrapExecutor(label)]
        self.runners = {
            tier.tier: Runner(self.blobs, folder / tier.tier / "tasks", [tier], runtimes, serves=[OWNER])
            for tier in tiers
        }

    def spec(self, program: str, units: int = 6, **more: object) -> JobSpec:
        """A job whose program is this text."""
        file = FileRef("work.py", self.blobs.put(program.encode()), len(program.encode()))
        fields: dict[str, object] = {
            "name": "units",
            "runtime": "torch",
            "commands": ("python $SHOAL_IN/work.py",),
            "chunks": (Chunk(), Chunk()),
            "files": (file,),
            "numeric": "D0",
            "proof": Proof("deterministic", units=units),
        }
        return JobSpec(**{**fields, **more})  # type: ignore[arg-type]

    async def run(self, work: Run, tier: str = "child") -> RunDone:
        """To its end, quietly."""
        runner = self.runners[tier]
        await runner.clean()
        return await runner.run(work, lambda lines: self.lines.extend(lines), lambda name: None)

    async def execute(self, spec: JobSpec, chunk: int = 0, tier: str = "child") -> RunDone:
        """A provider's run."""
        return await self.run(Run(f"job/{chunk}/1", spec, chunk, (), (), OWNER), tier)

    async def replay(self, spec: JobSpec, leaves: tuple[Leaf, ...], chunk: int = 0, tier: str = "child") -> RunDone:
        """An auditor's."""
        return await self.run(Run("audit", spec, chunk, (), (), OWNER, units=leaves, seed=b"\5" * 32), tier)

    def trace(self, done: RunDone) -> Trace:
        """What a run committed to."""
        assert done.reason == "ok" and done.trace != ZERO_DIGEST, done
        return decode_trace(self.blobs.read(done.trace, MIB), OWNER)

    def content(self, digest: bytes) -> bytes:
        """A blob."""
        return self.blobs.read(Digest(digest), 64 * MIB)
