"""A validator that issues canaries, on real processes: who answers wrongly loses its stake, who computes is paid."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import Struct

from tests.end_to_end.conftest import WAITS, Network, running_network

CHEAT = "provider-1"
SOURCE = f"""runtime: python
commands: ['{WAITS}', 'seq 1 $N | sha256sum > $SHOAL_OUT/sum.txt']
env: {{N: 2000000}}
numeric: D0
audit: 1
estimate: 5s
chunks: 2
"""
PER_HOUR = 3600
"""One a second, so that nobody waits for it."""


class Attempt(Struct):
    provider: str
    end: str


class Chunk(Struct):
    state: str
    outcome: str
    code: str
    provider: str | None
    attempts: list[Attempt]


class Money(Struct):
    pending: int


class Job(Struct):
    job: str
    name: str
    state: str
    chunks: list[Chunk] = []
    money: Money | None = None


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Four providers, of which the cheapest scratches every output, and a validator that knows some answers."""
    with running_network(tmp_path_factory.mktemp("canaries"), 4, cheats=True, canaries=PER_HOUR) as network:
        yield network


def test_a_known_answer_convicts_the_cheat_and_pays_the_honest(watched: Network) -> None:
    watched.ask(CHEAT, "node.drain")  # It never meets the source.
    source = watched.settled(watched.run("sums-1", SOURCE), waits="*")
    assert {chunk.code for chunk in source.chunks} == {"hash_equal"}
    watched.ask(CHEAT, "node.drain", resume=True)

    def issued() -> Job | None:
        watched.let_end("validator")  # Which tries it first.
        found = msgspec.convert(watched.ask("validator", "job.list")["jobs"], list[Job])
        return found[0] if found else None

    canary = watched.wait("a canary is issued", issued)
    assert canary.name.startswith("sums-") and canary.name != "sums-1"

    def look() -> Job:
        return msgspec.convert(watched.ask("validator", "job.status", job=canary.job), Job)

    def begun() -> bool | None:
        """It waits: each of the two who have not met the source has a chunk."""
        return [chunk.state for chunk in look().chunks] == ["running"] * 2 or None

    watched.wait("the canary is computed", begun)

    def over() -> Job | None:
        watched.let_end()
        job = look()
        is_over = job.state in ("settled", "failed", "cancelled")
        return job if is_over and job.money is not None and not job.money.pending else None

    status = watched.wait("the canary is over", over)
    assert (status.state, [chunk.outcome for chunk in status.chunks]) == ("settled", ["accept"] * 2)
    ends = {(watched.name(attempt.provider), attempt.end) for chunk in status.chunks for attempt in chunk.attempts}
    assert (CHEAT, "fraud") in ends and (CHEAT, "accepted") not in ends
    met = {watched.name(chunk.provider) for chunk in source.chunks}
    assert not {name for name, _ in ends} & met, "nobody meets the same work twice"
    proven(watched, canary.job)


def proven(network: Network, job: str) -> None:
    """The verdict and the money, from the receipts alone."""
    data = network.ask("validator", "job.receipt", job=job)["receipt"]
    assert isinstance(data, bytes)
    account = network.account(data)
    wrong = [lease for lease in account.leases.values() if lease.code == "wrong_canary"]
    assert wrong and all(lease.outcome == "fraud" and lease.slashed > 0 == lease.paid for lease in wrong)
    assert sum(lease.paid > 0 for lease in account.leases.values()) == 2
