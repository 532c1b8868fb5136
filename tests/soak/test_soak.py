"""Everything is killed, again and again, while jobs train: they end with the weights of an uninterrupted run, the bills
are exact, and nothing is left behind.

    make soak                              100 kills, about half an hour
    SHOAL_SOAK_KILLS=20 SHOAL_SOAK_SEED=7 make soak
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from benchmarks.recovery_watch import Watch
from gateway.schemas import JobStatus
from protocol import genesis
from protocol.units import CREDIT
from shoal import receipts
from shoal.client import Client
from shoal.devnet import Devnet
from shoal.processes import until
from tests.soak import leftovers
from tests.soak.campaign import SCRIPT, STEPS, TORCH, Campaign, digest, reference, resumed

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch: `make soak` prepares it"),
]

KILLS = int(os.environ.get("SHOAL_SOAK_KILLS", "100"))
SEED = int(os.environ.get("SHOAL_SOAK_SEED", "1"))
QUIET_S = 60.0
"""Seconds in which the last job's traces must be gone."""


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    """A devnet of four providers that is gone afterwards."""
    devnet = Devnet(tmp_path / "net", lambda text: None)
    state = devnet.up(4, deposit=1_000 * CREDIT)
    watch = Watch(devnet, [node.name for node in state.nodes])
    try:
        with Client(state.gateway.url, state.gateway.token) as client:
            script = f"train_{secrets.token_hex(4)}.py"
            yield Campaign(devnet, state, client, tmp_path, watch, Random(SEED), script)
    finally:
        watch.close()
        devnet.down()


def check_bill(campaign: Campaign, status: JobStatus) -> None:
    """What was set aside went somewhere, to the unit; the receipt alone proves the same."""
    money = campaign.paid(status.job)
    assert money.cap == money.paid + money.commission + money.evidence + money.refunded and money.slashed == 0
    file = campaign.devnet.folder / "genesis.json"
    account = receipts.verify(campaign.client.receipt(status.job), genesis.from_json(file.read_bytes()))
    assert account.is_closed and sum(account.movements().values()) == 0
    assert (account.paid, account.commission, account.refunded) == (money.paid, money.commission, money.refunded)


def check_clean(campaign: Campaign) -> None:
    """Soon after the last job nothing of it is left anywhere."""
    net, nodes = campaign.devnet.folder, [node.name for node in campaign.state.nodes]

    def left() -> list[object]:
        found = (*leftovers.processes(campaign.script), *leftovers.groups(net, nodes), *leftovers.tasks(net, nodes))
        return [*found, *leftovers.blobs(net, nodes).items()]

    until(f"nothing is left: {left()}", lambda: True if not left() else None, [], QUIET_S)


def test_a_hundred_kills(campaign: Campaign, tmp_path: Path) -> None:
    expected = reference(tmp_path / "reference")
    ended = campaign.run(KILLS)
    attempts = [chunk.attempts for status in ended for chunk in status.chunks]
    takeovers = sum(resumed(chunk) for status in ended for chunk in status.chunks)
    said = f"{sum(campaign.struck.values())} kills {dict(campaign.struck)}, {len(ended)} jobs, {takeovers} takeovers"
    sys.stderr.write(f"\n{said}\n")
    for status in ended:
        assert status.state == "settled", (status.job, status.state, status.reason)
        out = tmp_path / "results" / status.job
        campaign.client.result(status.job, out)
        weights = next(out.rglob("adder.safetensors")).parent
        assert digest(weights) == expected, f"{status.job} has other weights: {status.chunks[0].attempts}"
        check_bill(campaign, status)
    assert sum(len(one) for one in attempts) > len(ended), "nothing that ran was ever hit"
    check_clean(campaign)


def test_fifty_and_fifty_is_a_hundred(campaign: Campaign, tmp_path: Path) -> None:
    """One kill in the middle; the second half begins where the first was saved, and the sum is the whole."""
    expected = reference(tmp_path / "reference")
    (tmp_path / campaign.script).write_bytes(SCRIPT.read_bytes())
    campaign.submit()
    (job,) = campaign.jobs
    names = {node.peer: node.name for node in campaign.state.nodes}

    def half() -> str | None:
        chunk = campaign.look(job).chunks[0]
        is_half = chunk.state == "running" and chunk.step and chunk.attempts[-1].reached >= STEPS // 2
        return names[chunk.provider or ""] if is_half else None

    campaign.devnet.kill(until("half is done", half, [], 300))
    status = campaign.client.wait(job, timeout_s=300)
    assert status.state == "settled" and resumed(status.chunks[0]) == 1
    campaign.client.result(job, tmp_path / "result")
    assert digest(next((tmp_path / "result").rglob("adder.safetensors")).parent) == expected
    check_bill(campaign, status)
