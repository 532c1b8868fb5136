"""A unit program in a real sandbox: what it leaves, and what a replay of some of its units gives."""

from __future__ import annotations

from node.blobs import BlobStore
from protocol import wire
from protocol.effects import Run
from protocol.jobspec import ZERO_DIGEST, Manifest
from protocol.proof import Proof, Results
from protocol.units import MIB
from tests.node.proving.conftest import OWNER, Bench
from tests.node.proving.programs import BYTES, WALK
from verifier.tensors import decode


async def test_x(bench: Bench) -> None:
    spec = bench.spec(WALK)
    done = await bench.execute(spec)
    print(done)
    trace = bench.trace(done)
    print(trace.units, len(trace.leaves))
    again = await bench.replay(spec, trace.leaves[2:4])
    print(again)
