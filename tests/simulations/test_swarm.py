"""The swarm: seeds are drawn within their ranges, runs repeat everywhere, violations are reported."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from protocol import provider
from simulations.scenario import NS, Scenario
from simulations.swarm import Outcome, main, run_seed, run_swarm, summary
from simulations.swarm_scenario import SETTLE, scenario_of
from simulations.violation import Violation, read_report

SEEDS = range(1, 400)


def test_ranges_of_the_random_worlds() -> None:
    kinds: Counter[str] = Counter()
    for scenario in map(scenario_of, SEEDS):
        people, shape, jobs = scenario.population, scenario.topology, scenario.workload.jobs
        assert jobs is not None
        assert people.validators.n in (1, 4)
        assert 1 <= people.stewards.n <= 3
        assert 3 <= people.providers.n <= 8
        assert 1 <= jobs.limit <= 5
        assert 2 <= jobs.chunks <= 8
        assert 60 * NS <= scenario.simulation.duration <= 180 * NS
        assert 30_000_000 <= shape.delay <= 100_000_000
        assert 0.0 <= shape.loss <= 0.3
        assert 0.0 <= shape.replay <= 0.5
        assert scenario.simulation.wire == "checked"
        assert all(0 <= fault.at < scenario.simulation.duration for fault in scenario.faults)
        assert not any(fault.role == "validator" and fault.kind in ("clock", "corrupt") for fault in scenario.faults)
        kinds.update({f"{fault.kind} {fault.role} {fault.one_way} {fault.disk}" for fault in scenario.faults})
        kinds.update({f"validators {people.validators.n}", f"gossip {scenario.simulation.gossip}"})
    wanted = (
        "kill validator False torn",
        "kill steward False lost",
        "disk validator False full",
        "disk provider False lost",
        "clock provider False torn",
        "partition None True torn",
        "gossip gossipsub",
        "validators 4",
    )
    for what in wanted:
        assert kinds[what] > 0, what


def test_a_seed_is_one_scenario() -> None:
    assert scenario_of(17) == scenario_of(17)
    assert scenario_of(17) != scenario_of(18)


def same(outcome: Outcome) -> tuple[object, ...]:
    """What must be equal between two runs."""
    return outcome.seed, str(outcome.violation), outcome.auditor, outcome.events, outcome.counts, outcome.injections


def test_a_run_repeats_and_other_processes_find_the_same() -> None:
    heard: list[int] = []
    here = run_swarm((5, 12), 1, lambda outcome: heard.append(outcome.seed))
    there = run_swarm((5, 12), 2)
    assert heard == [5, 12]
    assert [same(outcome) for outcome in here] == [same(outcome) for outcome in there]
    assert all(outcome.violation is None for outcome in here)
    assert all(outcome.counts["jobs/settled"] > 0 for outcome in here)


def test_a_quiet_world_ends_early_and_a_run_without_settling_does_not() -> None:
    scenario = scenario_of(5)
    assert run_seed(5).ended < scenario.simulation.duration + SETTLE
    plan = msgspec.structs.replace(scenario.simulation, settle=0, checks=("ledger",), duration=20 * NS)
    short = msgspec.structs.replace(scenario, simulation=plan, faults=())
    assert run_seed(5, short).ended == 20 * NS


def test_faults_can_be_left_out() -> None:
    whole = run_seed(16)
    assert len(whole.injections) > 3
    part = run_seed(16, injections=whole.injections[:1])
    assert part.injections == whole.injections[:1]
    assert part.auditor != whole.auditor
    assert run_seed(16, injections=whole.injections).auditor == whole.auditor


def test_an_exception_is_a_violation_with_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(provider.Provider, "_granted", broken)
    outcome = run_seed(5, out=tmp_path)
    assert outcome.violation is not None
    assert outcome.violation.checker == "faultless"
    assert "KeyError" in outcome.violation.detail
    report = read_report(Path(outcome.folder))
    assert (report.seed, report.scenario, report.injections) == (5, scenario_of(5), outcome.injections)


def test_the_command_says_what_failed_and_how_to_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seeds", "1", "--from", "5", "--out", str(tmp_path)]) == 0
    assert "1 seeds" in capsys.readouterr().out

    def failing(seed: int, scenario: Scenario | None = None, out: Path | None = None) -> Outcome:
        found = run_seed(seed, out=out)
        return dataclasses.replace(found, violation=Violation("epochs", "planted", 2, NS), folder=f"{out}/1")

    monkeypatch.setattr("simulations.swarm.run_seed", failing)
    assert main(["--seeds", "1", "--from", "5", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "seed 5: epochs: planted at peer 2, after 1.000 s" in told
    assert f"shoal sim replay {tmp_path}/1" in told
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])


def test_the_summary_adds_up() -> None:
    outcomes = [
        Outcome(seed, None, (), "", 10, 2 * NS, {"jobs/settled": 2, "noise": 5, "peers/killed": 0}) for seed in (1, 2)
    ]
    table = summary(outcomes)
    assert "noise" not in table
    assert "peers/killed" not in table
    assert table.splitlines()[1].split() == ["jobs/settled", "4", "2"]
    assert table.endswith("2 seeds, 20 events, 4 simulated seconds, 0 violations")
