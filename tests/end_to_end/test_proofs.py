"""One job per class of proof on real processes, as the examples say: audited, paid; and an appeal against one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.schemas import JobStatus
from protocol.errors import Refused, ShoalError
from protocol.units import SECOND, Micros
from shoal import units_file
from shoal.receipt_account import Account
from shoal.units_file import UnitsAccount
from tests.end_to_end.conftest import Network, running_network
from tests.node.proving.programs import WALK

ROOT: Final = Path(__file__).parents[2]
TORCH: Final = ROOT / ".venv-torch" / "bin" / "python"
WINDOW: Final = Micros(120 * SECOND)
"""To appeal in: long enough for this machine to be busy with something else. Nothing waits for its end."""

SMALL: Final = {
    "render-units": {
        "WIDTH: 256, HEIGHT: 256, SAMPLES: 64": "WIDTH: 64, HEIGHT: 64, SAMPLES: 16",
        "units: 16": "units: 4",
    },
    "montecarlo": {"DARTS: 1000000": "DARTS: 20000", "units: 64": "units: 8"},
    "lora": {"units: 20": "units: 5", "STEPS: 5": "STEPS: 1"},
    "inference-units": {},
}
"""Examples, and what makes them quick."""

GENERAL: Final = """runtime: torch
files: [walk.py]
commands: [python walk.py]
numeric: D1
proof: {class: general, units: 6, samples: 4}
audit: 1
estimate: 5s
"""
REFUSED: Final = """runtime: python
commands: ['echo 3 > $SHOAL_OUT/n']
proof: {class: certificate, check: 'test "$(cat $SHOAL_IN/result/n)" = 4'}
estimate: 5s
"""
"""A result that is not what the job's own check wants."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four providers: one claims, three sit on a panel. Without .venv-torch their runtime `torch` has NumPy alone."""
    folder = tmp_path_factory.mktemp("proofs")
    (folder / "walk.py").write_text(WALK)
    with running_network(folder, 4, str(TORCH if TORCH.exists() else sys.executable), window=WINDOW) as network:
        yield network


def example(network: Network, name: str) -> str:
    """Submit an example's own job file, one small chunk of it, audited for sure."""
    text = (ROOT / "examples" / name / "job.yml").read_text()
    for old, new in SMALL[name].items():
        assert old in text, (name, old)
        text = text.replace(old, new)
    lines = [
        line
        for line in text.splitlines()
        if not line.startswith(("type:", "name:", "chunks:", "reduce:", "audit:", "files:"))
    ]
    for source in (ROOT / "examples" / name).iterdir():
        if source.is_file():
            (network.folder / source.name).write_bytes(source.read_bytes())
    files = next(line for line in text.splitlines() if line.startswith("files:"))
    return network.run(name, "\n".join([*lines, files, "chunks: 1", "audit: 1", ""]))


def proved(network: Network, job: str) -> JobStatus:
    """Every chunk was replayed by another machine to the bit, its pay adds up, and what was opened says the same."""
    status = network.over(job)
    assert status.state == "settled", (status.reason, status.chunks)
    assert {(chunk.outcome, chunk.code, chunk.is_audited) for chunk in status.chunks} == {
        ("accept", "units_equal", True)
    }
    assert all(chunk.auditor != chunk.provider for chunk in status.chunks)
    money = network.account(network.client.receipt(job))
    assert money.slashed == 0
    assert money.paid + money.held > 0
    found = network.wait("the judges show what was opened to them", lambda: opened(network, job, money))
    assert found.claims >= status.steps and found.units >= status.steps <= found.executions
    return status


def opened(network: Network, job: str, money: Account) -> UnitsAccount | None:
    """What was opened of a job, checked without the network; None while a judge is too busy to say."""
    target = network.folder / f"{job}.units"
    network.client.units(job, target)
    try:
        return units_file.verify(money, target, network.genesis)
    except Refused as error:
        assert error.code == "units_gap", error
        return None


@pytest.mark.parametrize("name", ["render-units", "montecarlo", "inference-units"])
def test_an_example_of_each_class_is_audited_by_replays_and_paid(network: Network, name: str) -> None:
    proved(network, example(network, name))


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch: `make demo` prepares it")
def test_training_is_audited_by_replays_and_paid(network: Network, tmp_path: Path) -> None:
    job = example(network, "lora")
    proved(network, job)
    names = {file.path.name for file in network.client.result(job, tmp_path)}
    assert names == {"model.safetensors", "state.shoal"}


def test_an_appeal_against_an_accepted_result_is_ruled_on_by_a_panel_of_three(network: Network) -> None:
    """Whoever doubts a result stakes a bond; three others execute the whole chunk again and find the same."""
    job = network.run("general", GENERAL + "chunks: 1\n")
    status = proved(network, job)
    claim = network.client.appeal(job, 0)
    assert (claim.finding, claim.round) == ("accept", 0) and claim.bond >= claim.price > 0

    def ruled() -> list[str] | None:
        ruling = [one for one in network.client.evidence(job).decisions if one.what in ("upheld", "overturned")]
        assert all((one.what, one.finding, one.code) == ("upheld", "accept", "hash_equal") for one in ruling), ruling
        return ruling[0].peers if ruling else None

    panel = network.wait("a panel rules", ruled)
    assert len(set(panel)) == 3 and status.chunks[0].provider not in panel
    assert network.account(network.client.receipt(job)).leases[0, 1].outcome == "accept"


def test_who_has_the_chunk_executed_first_stakes_nothing_on_a_right_result(network: Network) -> None:
    """The gateway's own node runs the chunk, gets trace and output of the claim, and there is no appeal."""
    job = network.run("doubted", GENERAL + "chunks: 1\n")
    proved(network, job)
    assert network.client.appeal(job, 0, replay=True).replay == "running"

    def refused() -> ShoalError | None:
        try:
            assert network.client.appeal(job, 0, replay=True).replay == "running"
        except ShoalError as error:
            return error
        return None

    assert network.wait("the gateway's node executes the chunk", refused).code == "replay_agrees"
    assert not [one for one in network.client.evidence(job).decisions if one.what == "appeal"]


def test_a_result_that_the_jobs_own_check_refuses_costs_no_honest_provider_anything(network: Network) -> None:
    """Each runs the check before it claims, and gives the chunk back; two of them end the job."""
    job = network.run("refused", REFUSED)
    status = network.over(job)
    assert (status.state, status.accepted) == ("failed", 0), status
    assert status.reason is not None and "check" in status.reason
    assert not network.client.evidence(job).decisions
    money = network.account(network.client.receipt(job))
    assert money.paid == money.commission == money.held == money.slashed == 0
