"""An ordinary training script on torch: cut on one host, parked and taken over on another, equal to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from node.runtimes import inspect
from protocol.completions import Guest
from protocol.jobspec import JobSpec, Resources
from protocol.units import GIB, MIB
from tests.node.protection.conftest import StandOf
from tests.node.protection.stand import GATE, Host, Stand, protected, resume_of, unprotected
from tests.node.waiting import happens

TORCH: Final = Path(__file__).parents[3] / ".venv-torch" / "bin" / "python"

SCRIPT: Final = b"""
import os, time, torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(3)
nn = torch.nn
model = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Dropout(0.2), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(TensorDataset(torch.randn(160, 16), torch.randn(160, 1)), batch_size=16, shuffle=True)
for epoch in range(4):
    for x, y in loader:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        print(epoch, loss.item(), flush=True)
        time.sleep(0.03)
        while epoch == 1 and os.path.exists(os.environ["SHOAL_IN"] + "/gate"):
            time.sleep(0.01)
with open(os.environ["SHOAL_OUT"] + "/weights", "wb") as file:
    for name, value in sorted(model.state_dict().items()):
        file.write(value.numpy().tobytes())
"""

pytestmark = pytest.mark.skipif(not TORCH.exists(), reason="the jobs' environment .venv-torch is not there")


def job(stand: Stand, host: Host, **more: bytes) -> JobSpec:
    """The script; with a gate among its files it stays in its second epoch."""
    spec = stand.spec(host, "python $SHOAL_IN/train.py", files={"train.py": SCRIPT, **more}, runtime="torch")
    return msgspec.structs.replace(spec, resources=Resources(memory_bytes=2 * GIB, disk_bytes=64 * MIB, pids=256))


async def test_training_goes_on_elsewhere_to_the_last_bit(stand_of: StandOf) -> None:
    stand = stand_of("bwrap")
    stand.runtimes = {**stand.runtimes, "torch": inspect("torch", TORCH)}
    one, two = await stand.host(), await stand.host()
    spec = job(stand, one)
    whole = one.output(await one.run(unprotected(spec)))
    one.lines.clear()
    sealed = await one.cut_and_stop(protected(job(stand, one, **GATE)), lines=11)
    assert sealed.step >= 11
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.runner.park, unprotected(spec), two.said.append)
        await happens(lambda: "parked" in two.states)
        done = await two.run(protected(spec, epoch=2, resume=resume_of(sealed)))
    assert two.output(done) == whole
    assert two.lines[0] == f"shoal: goes on from snapshot 1 at step {sealed.step}"
    assert len(two.lines) == 1 + 40 - sealed.step
    assert "disabled" not in [said.state for said in two.said if isinstance(said, Guest)]
