"""A job in units on real processes: audited by replays, paid; and a provider that changes one state of its trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Network, running_network
from tests.node.proving.programs import WALK

HELD = WALK.replace("import hashlib, os", "import hashlib, os, time").replace(
    "    def step(self, state, index):\n",
    """    def step(self, state, index):
        while os.environ.get("SHOAL_PROOF") == "run" and not os.path.exists(os.environ["SHOAL_IN"] + "/enough"):
            time.sleep(0.05)
""",
)
"""It takes no step before it is let, so that each of four providers has one of four chunks; audits do not wait."""

JOB = """runtime: torch
files: [walk.py]
commands: [python $SHOAL_IN/walk.py]
numeric: D0
proof: {class: deterministic, units: 6, samples: 6}
audit: 1
estimate: 5s
"""
WITHIN = (
    JOB.replace("numeric: D0", "numeric: D3")
    .replace("class: deterministic", "class: scientific")
    .replace("samples: 6", "samples: 6, tolerance: {ok: 1e-9, bad: 1e-3}")
)
CERTIFICATE = """runtime: python
commands: ['expr $SHOAL_CHUNK + 1 > $SHOAL_OUT/n; date +%N >> $SHOAL_OUT/n']
proof: {class: certificate, check: 'test "$(head -n 1 $SHOAL_IN/result/n)" = $((SHOAL_CHUNK + 1))'}
estimate: 5s
"""
"""Another answer at every try, and each of them right."""
CHEAT = "provider-1"


@pytest.fixture(scope="module")
def cheated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four providers, of which the cheapest lies about one unit. NumPy is all that their runtime has to have."""
    folder = tmp_path_factory.mktemp("units")
    (folder / "walk.py").write_text(HELD)
    with running_network(folder, 4, sys.executable, cheats=True) as network:
        yield network


def test_a_tolerance_is_judged_by_comparing_and_what_lies_outside_is_not_paid(cheated: Network) -> None:
    """The validator compares in a child process; the cheapest's changed state is far outside, which slashes nobody."""
    job = cheated.run("within", WITHIN + "chunks: 4\n")
    cheated.running(job, 4)
    status = cheated.over(job, waits="*")
    assert (status.state, status.accepted) == ("settled", 4), (status.state, status.reason, status.chunks)
    assert {(chunk.code, chunk.score) for chunk in status.chunks} == {("within_tolerance", 1.0)}
    ends = {(cheated.name(attempt.provider), attempt.end) for chunk in status.chunks for attempt in chunk.attempts}
    assert (CHEAT, "rejected") in ends and (CHEAT, "accepted") not in ends
    leases = {lease.code: lease for lease in cheated.account(cheated.client.receipt(job)).leases.values()}
    assert (leases["out_of_tolerance"].paid, leases["out_of_tolerance"].slashed) == (0, 0)


def test_one_wrong_unit_is_fraud_and_costs_the_stake_while_honest_traces_are_paid(cheated: Network) -> None:
    """The cheapest gets a chunk; its trace was changed in one state, which two who replay it find."""
    job = cheated.run("walk", JOB + "chunks: 4\n")
    cheated.running(job, 4)
    status = cheated.over(job, waits="*")
    assert (status.state, status.accepted) == ("settled", 4), (status.state, status.reason, status.chunks)
    assert {(chunk.code, chunk.is_audited) for chunk in status.chunks} == {("units_equal", True)}
    assert len({chunk.output for chunk in status.chunks}) == 4  # Every chunk has its own seed.
    ends = {(cheated.name(attempt.provider), attempt.end) for chunk in status.chunks for attempt in chunk.attempts}
    assert (CHEAT, "fraud") in ends and (CHEAT, "accepted") not in ends

    leases = {lease.code: lease for lease in cheated.account(cheated.client.receipt(job)).leases.values()}
    assert set(leases) == {"units_equal", "unit_differs"}
    assert leases["unit_differs"].outcome == "fraud" and leases["unit_differs"].slashed > 0
    assert leases["unit_differs"].paid == 0 < leases["units_equal"].paid


def test_who_was_caught_gets_no_more_work(cheated: Network, tmp_path: Path) -> None:
    job = cheated.run("again", JOB + "chunks: 3\nreduce: cat $SHOAL_IN/chunks/*/sum.txt > $SHOAL_OUT/sums\n")
    status = cheated.over(job, waits="*")
    assert (status.state, status.accepted) == ("settled", 4)
    assert CHEAT not in {cheated.name(chunk.provider) for chunk in status.chunks}
    assert [chunk.code for chunk in status.chunks] == ["units_equal"] * 3 + ["hash_equal"]
    (saved,) = cheated.client.result(job, tmp_path)
    assert len(set(saved.path.read_text().split())) == 3
    account = cheated.account(cheated.client.receipt(job))
    assert account.paid > 0 == account.slashed


def test_every_result_of_a_certificate_job_is_looked_at(cheated: Network) -> None:
    job = cheated.run("certificate", CERTIFICATE + "chunks: 3\n")
    status = cheated.over(job)
    assert [(chunk.outcome, chunk.code) for chunk in status.chunks] == [("accept", "check_passed")] * 3
    cheated.account(cheated.client.receipt(job))
