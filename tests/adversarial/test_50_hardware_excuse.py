"""Attack 50: "my hardware differs": a wrong unit is explained with another machine.

The defence: in an exact class machines do not differ. The unit is one leaf that anybody computes again, whatever the
sandbox, the threads and the order of memory; and where machines may differ (D2), only equal ones are asked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from node.executors.bwrap import BwrapExecutor
from tests.adversarial.unit_stand import Stand, forged
from tests.node.proving.modules import CHAIN, binary
from tests.node.proving.programs import WALK
from verifier.tensors import decode, encode

ULP = WALK.replace('state["x"] + rows', 'numpy.nextafter(state["x"], numpy.inf) + rows')
"""The smallest difference that there is, in every unit: what another processor could be blamed for."""


@pytest.mark.parametrize("tier", ["child", "bwrap"])
async def test_one_unit_computed_again_decides_in_every_sandbox(tmp_path: Path, tier: str) -> None:
    if tier == "bwrap" and (why := await BwrapExecutor("probe").why_not()):
        pytest.skip(why)
    stand = Stand(tmp_path, tier)
    spec = stand.spec(WALK)
    honest = await stand.run(spec)
    assert await stand.audit(spec, *honest, (3,)) == ""
    other = Stand(tmp_path / "other", tier)
    assert other.spec(WALK) == spec
    excuse = await other.cheat(spec, ULP)
    assert await other.audit(spec, *excuse, (3,)) == "unit_differs"


async def test_threads_and_hash_seeds_are_no_excuse(tmp_path: Path) -> None:
    """The environment is the job's: a provider's own changes nothing."""
    stand = Stand(tmp_path)
    spec = stand.spec(WALK.replace("import numpy\n", "import numpy\nassert os.environ['OMP_NUM_THREADS'] == '1'\n"))
    done, trace = await stand.run(spec)
    assert await stand.audit(spec, done, trace, (0, 5)) == ""


async def test_a_module_has_no_hardware_at_all(tmp_path: Path) -> None:
    stand = Stand(tmp_path, "wasm")
    module = binary(CHAIN)
    digest = stand.provider.blobs.put(module)
    assert stand.auditor.blobs.put(module) == digest
    spec = stand.spec("", runtime="wasm", commands=("work.py",))
    file = type(spec.files[0])("work.py", digest, len(module))
    spec = type(spec)(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"files": (file,)})
    done, trace = await stand.run(spec, tier="wasm")
    assert await stand.audit(spec, done, trace, (2, 4)) == ""
    memory = decode(stand.provider.content(trace.leaves[3].state))["bytes"].copy()
    memory.view("<u4")[65536 // 4] |= 0x0040_0001  # Another NaN, as a processor without canonical ones gives it.
    lie = forged(trace, 3, state=stand.provider.blobs.put(encode({"bytes": memory})))
    assert await stand.audit(spec, done, lie, (2,)) == "unit_differs"
