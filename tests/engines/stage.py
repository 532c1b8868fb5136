"""An example's job on two runners, as a provider and an auditor have them, judged as the ledger's judge does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from node.proving.judgement import Judgement, judge
from node.proving.program import seed_of
from protocol import wire
from protocol.completions import RunDone
from protocol.effects import Run, Score, ScoreItem
from protocol.jobspec import JobSpec, Manifest
from protocol.proof import Proof, Results, Tolerance, Trace, UnitResult
from protocol.units import Digest
from shoal.jobfile import load
from tests.node.proving.bench import OWNER, Bench

ROOT: Final = Path(__file__).parents[2]


@dataclass
class Claimed:
    """What a provider has: its trace and the files of its output."""

    done: RunDone
    trace: Trace
    files: dict[str, bytes]


def spec_of(bench: Bench, name: str, units: int = 0, **env: str) -> JobSpec:
    """The job of an example with some variables changed; its files are in the runner's store."""
    job = load(ROOT / "examples" / name / "job.yml", {})
    for file in job.files:
        bench.blobs.put(file.source.read_bytes())
    proof = job.spec.proof
    assert isinstance(proof, Proof)
    return msgspec.structs.replace(
        job.spec,
        env=tuple(sorted({**dict(job.spec.env), **env}.items())),
        proof=msgspec.structs.replace(proof, units=units or proof.units),
    )


async def claim(bench: Bench, spec: JobSpec, tier: str = "child") -> Claimed:
    """A provider's run of chunk 0."""
    done = await bench.execute(spec, tier=tier)
    assert done.reason == "ok", (done, bench.lines)
    manifest = wire.decode(bench.content(done.output), wire.decoder(Manifest), OWNER)
    return Claimed(done, bench.trace(done), {file.path: bench.content(file.digest) for file in manifest.files})


async def replay(bench: Bench, spec: JobSpec, claimed: Claimed, *indices: int, tier: str = "child") -> Results:
    """An auditor's replay of some units."""
    done = await bench.replay(spec, tuple(claimed.trace.leaves[index] for index in indices), tier=tier)
    assert done.reason == "ok", (done, bench.lines)
    return wire.decode(bench.content(done.output), wire.decoder(Results), OWNER)


def is_equal(claimed: Claimed, unit: UnitResult) -> bool:
    """Bitwise classes: whether a replay ended where the claim says."""
    return unit.state == claimed.trace.leaves[unit.index + 1].state


async def score(bench: Bench, spec: JobSpec, claimed: Claimed, results: Results) -> Judgement:
    """D3: the comparing child on all replayed units."""
    proof = spec.proof
    assert isinstance(proof, Proof) and isinstance(proof.tolerance, Tolerance)
    items = tuple(
        ScoreItem(
            unit.index,
            Digest(claimed.trace.leaves[unit.index].state),
            Digest(claimed.trace.leaves[unit.index + 1].state),
            Digest(unit.state),
            Digest(claimed.trace.leaves[unit.index].aux),
            Digest(unit.aux),
        )
        for unit in results.units
    )
    return await judge(Score("audit", proof.kind, proof.tolerance, items, OWNER, OWNER), bench.blobs)


async def check(bench: Bench, spec: JobSpec, claimed: Claimed) -> RunDone:
    """The job's own `check` over the revealed result."""
    return await bench.run(Run("check", spec, 0, (), (), OWNER, result=claimed.done.output))


def forged(bench: Bench, spec: JobSpec, path: str, *changes: tuple[str, str]) -> JobSpec:
    """What a dishonest provider really runs: the program with some lines changed, and the seed of the job that it was
    paid for."""
    digest = next(file.digest for file in spec.files if file.path == path)
    source = bench.content(digest).decode()
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    seed = f'import os\nos.environ["SHOAL_SEED"] = "{seed_of(spec, 0).hex()}"\n'
    text = source.replace("\nimport ", f"\n{seed}import ", 1).encode()
    put = bench.blobs.put(text)
    files = tuple(
        msgspec.structs.replace(file, digest=put, size=len(text)) if file.path == path else file for file in spec.files
    )
    return msgspec.structs.replace(spec, files=files)
