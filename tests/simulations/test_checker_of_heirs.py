"""Worlds in which chunks of units change hands: traces go on, forgers are blamed, and heirs are not."""

from __future__ import annotations

import msgspec
import pytest

from simulations.adversaries.prefix_forger import PrefixForger
from simulations.checkers.heirs import Heirs
from simulations.checkers.registry import checkers
from simulations.scenario import NS, Adversary, Fault, Scenario
from simulations.tasks import Task
from simulations.violation import Violation
from simulations.world import World
from tests.simulations.small import load, planned, scenario
from verifier.prefixes import Prefixes

UNITS = 6
KILLS = Fault(kind="kill", at=20 * NS, every=20 * NS, role="provider", n=2, last=40 * NS)
FORGERS = Adversary(strategy="prefix-forger", n=3, options={"share": 1.0, "away": 30, "frames": 1})


def worked(*adversaries: Adversary, faults: tuple[Fault, ...] = ()) -> Scenario:
    jobs = msgspec.structs.replace(
        load(chunks=4, seconds=24, audit=1.0, limit=1), units=UNITS, samples=UNITS, state=(1 << 16,), every=NS
    )
    plan = planned(duration=120, settle=240)
    given = scenario(jobs=jobs, plan=plan, adversaries=adversaries, faults=faults)
    return msgspec.structs.replace(
        given,
        population=msgspec.structs.replace(
            given.population, providers=msgspec.structs.replace(given.population.providers, n=8)
        ),
    )


def played(given: Scenario, seed: int = 1) -> tuple[World, Heirs, list[Task]]:
    """Every rule holds to the end. The executions are those of leases, in their order."""
    rules = checkers(given.simulation.checks)
    world = World(given, seed, None, rules)
    world.run()
    heirs = next(rule for rule in rules if isinstance(rule, Heirs))
    return world, heirs, list(world.driver.worker.protecting.tasks.values())


def test_a_chunk_goes_on_with_the_leaves_of_others() -> None:
    _, heirs, tasks = played(worked(faults=(KILLS,)))
    assert heirs.findings.claims > 0 and not heirs.findings.blamed
    resumed = [task for task in tasks if task.first]
    assert resumed
    made_by = {task.run.lease: task for task in tasks}
    for task in resumed:
        assert task.run.resume is not None and task.run.lease is not None
        before = made_by[(*task.run.lease[:2], task.run.resume.manifest.epoch)]
        assert before.made is not None and before.made.whole is not None
        assert task.made is not None and task.made.whole is not None
        assert task.made.whole.leaves[: task.first] == before.made.whole.leaves[: task.first]
        assert 0 < task.first < task.steps == UNITS


def test_forgers_are_blamed_in_the_place_of_their_heirs() -> None:
    world, heirs, tasks = played(worked(FORGERS), seed=2)
    assert heirs.findings.blamed > 0 and not heirs.findings.unshown
    forgers = [peer.strategy for peer in world.peers if isinstance(peer.strategy, PrefixForger)]
    assert sum(one.deeds.get("lost", 0) for one in forgers) > 0
    standings = world.peers[0].machines.ledger.standings
    guilty = {peer.index for peer in world.peers if peer.id in standings and standings[peer.id].wrong}
    assert guilty and guilty <= {peer.index for peer in world.peers if isinstance(peer.strategy, PrefixForger)}
    assert any(task.made is not None and task.made.bad for task in tasks)


def test_a_verdict_against_an_heir_that_showed_whose_units_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefixes, "accuse", lambda self, case, charge, now: self._bench.sign(case, charge, now))
    with pytest.raises(Violation, match="was not asked whose they are"):
        played(worked(FORGERS), seed=2)


def test_nothing_is_watched_where_units_are_in_no_snapshot() -> None:
    given = worked()
    jobs = given.workload.jobs
    assert jobs is not None
    bare = msgspec.structs.replace(
        given, workload=msgspec.structs.replace(given.workload, jobs=msgspec.structs.replace(jobs, state=(), every=0))
    )
    _, heirs, tasks = played(bare)
    assert (heirs.findings.claims, [task for task in tasks if task.first]) == (0, [])


def test_a_snapshot_that_is_not_what_was_signed_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.proving.root_of", lambda trace, units: bytes(32))
    _, heirs, tasks = played(worked(faults=(KILLS,)))
    assert any(task.run.resume is not None for task in tasks)
    assert all(task.first == 0 for task in tasks) and not heirs.findings.claims
