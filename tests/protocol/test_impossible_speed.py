"""A provider that is faster than any machine, in a whole network: looked at in any case, and paid where it is right."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocol.jobspec import JobSpec
from protocol.proof import Proof
from protocol.units import SECOND
from tests.protocol.test_steward import finish, start
from tests.protocol.town import Town, job_spec
from verifier.plausibility import CORE_GFLOPS, hard_floor

MakeTown = Callable[..., Town]

STREAK = 40
CHUNKS = 6
WORK = Proof("deterministic", samples=1, flops=8 * CORE_GFLOPS * 10**9)
"""Eight seconds of the fastest core there is."""


def job() -> JobSpec:
    return msgspec.structs.replace(job_spec(CHUNKS, audit_ppm=0, proof=WORK), name="hard")


def town_of_one(make_town: MakeTown) -> Town:
    """Its provider has been right for so long that hardly anything is looked at."""
    town = make_town(providers=1, auditors=1)
    before = start(town, job_spec(STREAK, audit_ppm=0), "before")
    finish(town, before, 600)
    standing = town.ledger.standings[town.citizens["p0"].identity.peer]
    assert standing.consecutive_valid == STREAK
    return town


def claims(town: Town, seconds: float) -> tuple[int, list[dict[str, str | int]], str]:
    """How many of its claims of hard work were audited, what the judge said of its speed, how the job ended."""
    provider = town.citizens["p0"]
    provider.seconds = seconds
    record = start(town, job(), "hard")
    finish(town, record, 600)
    leases = town.ledger.escrows[record.escrow].chunks.values()
    said = [emit.fields for emit in town.citizens["validator"].events if emit.name == "impossible_speed"]
    assert town.ledger.standings[provider.identity.peer].wrong == 0
    assert {lease.outcome for lease in leases} == {"accept"}
    return sum(lease.is_audited for lease in leases), said, record.state


def test_who_answers_in_no_time_is_audited_however_long_its_streak_and_paid(make_town: MakeTown) -> None:
    audited, said, state = claims(town_of_one(make_town), 0.01)
    assert (audited, state) == (CHUNKS, "settled")
    assert len(said) == CHUNKS
    assert all(int(fields["took_us"]) < int(fields["least_us"]) == hard_floor(job()) for fields in said)
    assert hard_floor(job()) == 8 * SECOND


def test_honest_twin_takes_its_time_and_is_not(make_town: MakeTown) -> None:
    audited, said, state = claims(town_of_one(make_town), 9.0)
    assert audited < 2 and state == "settled"
    assert said == []
