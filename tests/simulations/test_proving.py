"""Jobs with units in simulated worlds: honest ones are paid, cheats meet the draw, and noise condemns nobody."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from simulations.adversaries.unit_skipper import UnitSkipper
from simulations.scenario import Adversary, Jobs, NumericClass, Scenario
from simulations.world import World
from tests.simulations.small import load, planned, ran, scenario


def with_units(numeric: NumericClass = "D1", samples: int = 4, auditors: int = 1, audit: float = 1.0) -> Jobs:
    return msgspec.structs.replace(
        load(chunks=4, seconds=4, audit=audit, limit=2), units=12, samples=samples, auditors=auditors, numeric=numeric
    )


def codes(world: World) -> Counter[tuple[str, str]]:
    """How leases ended on the ledger: the newest of each chunk, and those that were judged before it."""
    validator = world.peers[0].machines
    return Counter(
        (lease.outcome, lease.code) for escrow in validator.ledger.escrows.values() for lease in escrow.chunks.values()
    )


def world_of(jobs: Jobs, *adversaries: Adversary) -> Scenario:
    return scenario(jobs=jobs, plan=planned(duration=60, settle=60), validators=3, adversaries=adversaries)


@pytest.mark.parametrize(("numeric", "code"), [("D1", "units_equal"), ("D3", "within_tolerance")])
@pytest.mark.parametrize("auditors", [1, 2])
def test_honest_units_are_accepted(numeric: NumericClass, code: str, auditors: int) -> None:
    found = codes(ran(world_of(with_units(numeric, auditors=auditors))))
    assert set(found) == {("accept", code)} and found.total() == 8


def test_skipped_units_are_fraud_when_all_are_looked_at() -> None:
    cheat = Adversary(strategy="unit-skipper", n=2, options={"share": 0.5})
    world = ran(world_of(with_units(samples=12), cheat))
    cheats = [peer for peer in world.peers if isinstance(peer.strategy, UnitSkipper)]
    standings = world.peers[0].machines.ledger.standings
    assert cheats and any(standings[peer.id].wrong for peer in cheats if peer.id in standings)
    honest = [peer for peer in world.peers if peer not in cheats]
    assert not any(standings[peer.id].wrong for peer in honest if peer.id in standings)


def test_cheaper_arithmetic_is_rejected_and_never_slashed() -> None:
    cheat = Adversary(strategy="unit-skipper", n=2, options={"share": 0, "off": 0.01})
    world = ran(world_of(with_units("D3"), cheat))
    ledger = world.peers[0].machines.ledger
    assert sum(standing.rejected for standing in ledger.standings.values()) > 0
    assert all(escrow.slashed == 0 for escrow in ledger.escrows.values())
    assert not any(standing.wrong for standing in ledger.standings.values())


def test_a_silent_error_of_an_honest_host_spoils_one_unit() -> None:
    given = world_of(with_units(samples=12))
    providers = msgspec.structs.replace(given.population.providers, corrupt=0.3)
    given = msgspec.structs.replace(given, population=msgspec.structs.replace(given.population, providers=providers))
    found = ran(given)
    made = found.driver.worker.proving.cheated
    assert set(made.values()) == {0, 1}


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (ran(world_of(with_units("D3", auditors=2))) for _ in range(2))
    assert first.driver.auditor.hexdigest() == second.driver.auditor.hexdigest()
