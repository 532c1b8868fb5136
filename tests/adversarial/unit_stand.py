"""A provider and an auditor on machines of their own, with real sandboxes, for attacks on unit jobs.

The provider may run another program than the job's: it is its machine. What it claims, it claims for the job."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from node.executors.wasm import engine_digest
from node.runtimes import discover
from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.proof import Leaf, Results, Trace
from protocol.units import Digest, PeerId
from tests.node.proving.bench import OWNER, Bench
from verifier import openings, replays
from verifier.views import Facts

PROVIDER, AUDITOR = PeerId(b"\1" * 32), PeerId(b"\2" * 32)
RUNTIMES = discover({"torch": Path(sys.executable)}, engine_digest())


class Stand:
    """Two machines. `tier` is where the auditor runs."""

    def __init__(self, folder: Path, tier: str = "child") -> None:
        self.provider = Bench(folder / "provider", RUNTIMES)
        self.auditor = Bench(folder / "auditor", RUNTIMES)
        self.tier = tier

    def spec(self, program: str, units: int = 6, **more: object) -> JobSpec:
        """The job, whose files both have."""
        self.auditor.spec(program)
        return self.provider.spec(program, units, **more)

    async def cheat(self, spec: JobSpec, program: str, tier: str = "child") -> tuple[RunDone, Trace]:
        """The provider runs this program under the name of the job's."""
        path = self.provider.blobs.path(Digest(spec.files[0].digest))
        path.chmod(0o644)
        path.write_text(program)
        return await self.run(spec, tier)

    async def run(self, spec: JobSpec, tier: str = "child") -> tuple[RunDone, Trace]:
        """The provider computes the chunk."""
        done = await self.provider.execute(spec, tier=tier)
        return done, self.provider.trace(done)

    async def audit(self, spec: JobSpec, done: RunDone, trace: Trace, indices: tuple[int, ...]) -> str:
        """The code that the auditor's replay of these units gives; empty where it agrees with the claim."""
        results = await self.replay(spec, trace, indices)
        leaves = {leaf.index: leaf for leaf in trace.leaves}
        facts = Facts.of(wire.digest(wire.encode(spec)), len(wire.encode(spec)), spec)
        return replays.examine(facts, leaves, done.output, results).code

    async def finish(self, spec: JobSpec, trace: Trace) -> Digest:
        """The output that the auditor's program makes of the last state."""
        last = trace.leaves[-1]
        self.auditor.blobs.put(self.provider.content(last.state))
        found = await self.auditor.run(Run("finish", spec, 0, (), (), OWNER, last=last), self.tier)
        assert found.reason == "ok", (found, self.auditor.lines)
        return found.output

    async def replay(self, spec: JobSpec, trace: Trace, indices: tuple[int, ...]) -> Results:
        """Blind: of neighbours only the first is opened, and inputs and aux are not."""
        opened = openings.blind({leaf.index: leaf for leaf in trace.leaves}, indices, True)
        for leaf in opened:
            if leaf.state != ZERO_DIGEST:
                self.auditor.blobs.put(self.provider.content(leaf.state))
        found = await self.auditor.replay(spec, opened, tier=self.tier)
        assert found.reason == "ok", (found, self.auditor.lines)
        data = self.auditor.content(found.output)
        return replays.read(data, AUDITOR, [leaf.index for leaf in opened])


def forged(trace: Trace, index: int, **changes: object) -> Trace:
    """The same trace with another leaf."""
    leaves: list[Leaf] = list(trace.leaves)
    leaves[index] = msgspec.structs.replace(leaves[index], **changes)
    return Trace(tuple(leaves), trace.effects)
