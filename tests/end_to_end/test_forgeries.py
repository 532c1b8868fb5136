"""A provider that lies, met by one class of proof after the other on one network: what each lie is called and costs.

The cheapest of four changes what it computed before it claims. In every job somebody honest computes beside it and is
paid. The order matters: whoever was wrong gets other jobs still, whoever forged a unit gets none any more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.schemas import JobStatus
from shoal.receipt_account import Lease
from tests.end_to_end.conftest import WAITS, Network, running_network

WASM: Final = Path(__file__).parents[2] / "examples" / "wasm-units"
CHEAT: Final = "provider-1"

CERTIFICATE: Final = f"""runtime: python
commands: ['{WAITS}', 'expr 6 \\* 7 > $SHOAL_OUT/answer']
proof: {{class: certificate, check: 'test "$(cat $SHOAL_IN/result/answer)" = 42'}}
chunks: 4
estimate: 5s
"""
WHOLE: Final = f"""runtime: python
commands: ['{WAITS}', 'echo $SHOAL_CHUNK is done > $SHOAL_OUT/answer']
proof: {{class: general}}
chunks: 4
audit: 1
estimate: 5s
"""
"""No units: a chunk is executed again as a whole."""


@pytest.fixture(scope="module")
def lied_to(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four providers, of which the cheapest lies."""
    folder = tmp_path_factory.mktemp("forgeries")
    (folder / "cluster.wasm").write_bytes((WASM / "cluster.wasm").read_bytes())
    with running_network(folder, 4, sys.executable, cheats=True) as network:
        yield network


def wasm_job() -> str:
    """The example's own file, with six units for forty, all of which are replayed: chance has no say."""
    lines = [line for line in (WASM / "job.yml").read_text().splitlines() if not line.startswith(("type:", "name:"))]
    text = "\n".join(lines) + "\n"
    assert "units: 40, samples: 4" in text
    return text.replace("units: 40, samples: 4", "units: 6, samples: 6")


def done(network: Network, job: str, code: str, *, waits: bool = False) -> JobStatus:
    """Every chunk was done in the end, and each by somebody whose result was audited. `waits`: the job waits until each
    of the four has one of four chunks."""
    if waits:
        network.running(job, 4)
    status = network.over(job, waits="*" if waits else "")
    assert (status.state, status.accepted) == ("settled", 4), (status.state, status.reason, status.chunks)
    assert {(chunk.outcome, chunk.code, chunk.is_audited) for chunk in status.chunks} == {("accept", code, True)}
    return status


def caught(network: Network, status: JobStatus, outcome: str, code: str) -> Lease:
    """The lie's lease, the first if a chunk came to the liar twice. It ended so, everybody else was paid, and the money
    adds up from receipts alone."""
    attempts = [(network.name(one.provider), one.end) for chunk in status.chunks for one in chunk.attempts]
    lies = [end for name, end in attempts if name == CHEAT and end]  # One may have begun without coming to a claim.
    assert lies and set(lies) <= {outcome, code}, attempts
    leases = network.account(network.client.receipt(status.job)).leases.values()
    lie = next(lease for lease in leases if lease.outcome == outcome)
    assert (lie.code, lie.paid) == (code, 0) and lie.slashed > 0
    honest = [lease for lease in leases if lease.outcome == "accept"]
    assert len(honest) == 4 and all(lease.paid > 0 == lease.slashed for lease in honest)
    return lie


def stake(network: Network) -> int:
    """What the liar has left of it."""
    held = network.ask(CHEAT, "node.status")["stake"]
    assert isinstance(held, int)
    return held


def test_a_certificate_that_its_check_refuses_is_wrong_and_costs_a_tenth(lied_to: Network) -> None:
    """It says that its own check held; two others run it over what was revealed."""
    status = done(lied_to, lied_to.run("certificate", CERTIFICATE), "check_passed", waits=True)
    lie = caught(lied_to, status, "wrong", "check_failed")
    assert lie.slashed == lie.price // 10


def test_a_general_chunk_without_units_is_executed_again_as_a_whole(lied_to: Network) -> None:
    status = done(lied_to, lied_to.run("whole", WHOLE), "hash_equal", waits=True)
    lie = caught(lied_to, status, "wrong", "hash_differs")
    assert lie.slashed == lie.price // 10


def test_a_forged_page_of_a_modules_memory_is_fraud(lied_to: Network, tmp_path: Path) -> None:
    """One bit of the last page of one state; two who replay the unit before it find another memory."""
    before = stake(lied_to)
    job = lied_to.run("wasm-units", wasm_job())
    status = done(lied_to, job, "units_equal")
    lie = caught(lied_to, status, "fraud", "unit_differs")
    assert lie.slashed == lie.collateral > 0
    assert stake(lied_to) == 0 and before > 100 * lie.price
    states = {file.path.read_bytes() for file in lied_to.client.result(job, tmp_path)}
    assert len(states) == 4 and {len(state) for state in states} == {3 * 65536 + 80}


def test_honest_modules_are_paid_and_the_forger_gets_no_more_work(lied_to: Network) -> None:
    status = done(lied_to, lied_to.run("again", wasm_job()), "units_equal")
    assert CHEAT not in {lied_to.name(attempt.provider) for chunk in status.chunks for attempt in chunk.attempts}
    account = lied_to.account(lied_to.client.receipt(status.job))
    assert account.paid > 0 == account.slashed
