"""Inference in a real sandbox: run, replayed, compared by the child. Integers as bytes, floats within a tolerance."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from node.proving.judgement import judge
from protocol import wire
from protocol.effects import Score, ScoreItem
from protocol.jobspec import ZERO_DIGEST, FileRef, JobSpec
from protocol.proof import Leaf, Proof, Results, Tolerance, Trace
from protocol.units import Digest, PeerId
from shoal.jobfile import load
from tests.node.proving.bench import OWNER, Bench
from verifier.tensors import decode, encode

FOLDER = Path(__file__).parents[3] / "examples" / "inference-units"
TOLERANCE = Tolerance(t_ok=2_000_000_000, t_bad=11_000_000_000, profile="fp32/prose")
FLOATS = """
from pathlib import Path
import shoal_work
from shoal_work import float_model, inference
here = Path(__file__).parent
tokens = [[ord(character) - 32 for character in text] for text in ("The provider ", "A peer ", "Every block ")]
model = float_model.load(here / "large.safetensors")
shoal_work.run(inference.InferenceWork(model, tokens, inference.Sampling(0.8), inference.Options(95, 60, 3)))
"""


def job(bench: Bench) -> JobSpec:
    """The example, its files in the store."""
    spec = load(FOLDER / "job.yml", {}).spec
    files = [FileRef(file.path, bench.blobs.put((FOLDER / file.path).read_bytes()), file.size) for file in spec.files]
    return msgspec.structs.replace(spec, files=tuple(files))


def floats(bench: Bench) -> JobSpec:
    """The same model in fp32, three requests in one unit, and the empty unit before it."""
    proof = Proof("inference", units=2, samples=2, tolerance=TOLERANCE)
    spec = bench.spec(FLOATS, 2, numeric="D3", proof=proof)
    weights = (FOLDER / "large.safetensors").read_bytes()
    file = FileRef("large.safetensors", bench.blobs.put(weights), len(weights))
    return msgspec.structs.replace(spec, files=(*spec.files, file))


async def replayed(bench: Bench, spec: JobSpec, leaves: tuple[Leaf, ...]) -> Results:
    done = await bench.replay(spec, leaves)
    assert done.reason == "ok", bench.lines
    return wire.decode(bench.content(done.output), wire.decoder(Results), OWNER)


async def compared(bench: Bench, spec: JobSpec, leaf: Leaf) -> tuple[str, str, int]:
    """(fault, code, score) of one unit after an auditor has replayed it."""
    (unit,) = (await replayed(bench, spec, (leaf,))).units
    item = ScoreItem(
        leaf.index,
        start=Digest(leaf.state),
        claimed=ZERO_DIGEST,
        replayed=ZERO_DIGEST,
        claimed_aux=Digest(leaf.aux),
        replayed_aux=Digest(unit.aux),
    )
    score = Score("audit", "inference", TOLERANCE, (item,), PeerId(b"\1" * 32), PeerId(b"\2" * 32))
    found = await judge(score, bench.blobs)
    assert found.report is not None
    return found.fault, found.report.code, found.report.score


def changed(bench: Bench, trace: Trace, tokens: slice) -> Leaf:
    """Leaf 1 of a provider that committed to other tokens."""
    leaf = trace.leaves[1]
    state = decode(bench.content(leaf.state))
    wrong = state["tokens"].copy()
    wrong[tokens] = (wrong[tokens].astype(np.int64) + 1) % 90
    data = encode({**state, "tokens": wrong})
    return msgspec.structs.replace(leaf, state=bench.blobs.put(data), state_bytes=len(data))


async def test_integers_are_replayed_to_the_bytes_that_were_committed_to(bench: Bench) -> None:
    spec = job(bench)
    trace = bench.trace(await bench.execute(spec))
    results = await replayed(bench, spec, (trace.leaves[0], trace.leaves[2], trace.leaves[4]))
    for unit in results.units:
        leaf = trace.leaves[unit.index]
        assert (unit.input, unit.aux, unit.state) == (leaf.input, leaf.aux, ZERO_DIGEST)


async def test_one_wrong_token_of_integers_is_another_aux(bench: Bench) -> None:
    spec = job(bench)
    trace = bench.trace(await bench.execute(spec))
    (unit,) = (await replayed(bench, spec, (changed(bench, trace, slice(4, 5)),))).units
    assert unit.aux != trace.leaves[1].aux


async def test_floats_are_compared_within_a_tolerance(bench: Bench) -> None:
    spec = floats(bench)
    trace = bench.trace(await bench.execute(spec))
    assert await compared(bench, spec, trace.leaves[0]) == ("", "within_tolerance", 1_000_000)
    assert await compared(bench, spec, trace.leaves[1]) == ("", "within_tolerance", 1_000_000)
    assert await compared(bench, spec, changed(bench, trace, slice(0, 30))) == ("", "wrong_tokens", 0)


async def test_a_state_that_is_no_answer_does_not_end_the_audit(bench: Bench) -> None:
    spec = floats(bench)
    trace = bench.trace(await bench.execute(spec))
    data = encode({"tokens": np.zeros(3, np.float32)})
    junk = msgspec.structs.replace(trace.leaves[1], state=bench.blobs.put(data), state_bytes=len(data))
    assert await compared(bench, spec, junk) == ("", "malformed_proof", 0)
