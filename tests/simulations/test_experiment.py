"""One scenario with one seed: what comes back, and what lies on the disk afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from protocol.errors import Refused
from simulations import experiment, scenario_file
from simulations.experiment import Result, run_seed
from simulations.meter import Meter
from simulations.observer import Observer
from simulations.run_directory import RunDirectory, State, scenario_hash
from simulations.scenario import NS, Adversary, Outputs, Scenario
from simulations.violation import Violation, read_report
from tests.simulations.small import planned, scenario

GIVEN = msgspec.structs.replace(scenario(plan=planned(30, 30)), outputs=Outputs(plots=()))


def quiet(now: int, events: int) -> None:
    """Nobody watches the progress."""


def run(folder: Path | None = None, seed: int = 1, given: Scenario = GIVEN) -> Result:
    """One run."""
    return run_seed(given, seed, folder, quiet)


class Picky(Observer):
    """Finds fault with every third second."""

    def second(self, now: int) -> None:
        if now == 3 * NS:
            raise Violation("picky", "three is too many", peer=1, now=now)


def test_a_run_without_a_folder_leaves_nothing() -> None:
    result = run()
    assert result.violations == [] and result.attacks == () and result.events > 1_000
    assert result.recorder.counts["jobs/settled"] == 1 and result.seconds > 0


def test_the_same_seed_gives_the_same_result() -> None:
    one, again, other = run(), run(), run(seed=2)
    assert (one.auditor, one.events) == (again.auditor, again.events) and one.auditor != other.auditor
    assert list(one.recorder.rows()) == list(again.recorder.rows())


def test_a_run_leaves_a_whole_directory(tmp_path: Path) -> None:
    folder = tmp_path / "seed-1"
    given = msgspec.structs.replace(GIVEN, outputs=Outputs(events=True, trace=1.0, plots=()))
    result = run(folder, given=given)
    directory = RunDirectory(folder)
    manifest = directory.read_manifest()
    assert (manifest.seed, manifest.auditor, manifest.violations) == (1, result.auditor, 0)
    assert manifest.scenario == scenario_hash(given) and manifest.events == result.events
    assert 30 < manifest.simulated_s <= 60, "the settle phase ends when all has ended"
    assert {"metrics.parquet", "histograms.parquet", "scenario.yaml", "README.md"} < set(manifest.files)
    assert {"events.jsonl.zst", "trace.json"} < set(manifest.files)
    assert scenario_file.load(folder / "scenario.yaml") == given
    rows = directory.metrics()
    assert set(rows["seed"]) == {1} and "job/makespan" in set(rows["name"])


def test_watching_changes_nothing(tmp_path: Path) -> None:
    given = msgspec.structs.replace(GIVEN, outputs=Outputs(events=True, trace=1.0, plots=()))
    assert run(tmp_path / "watched", given=given).auditor == run().auditor


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    run_seed(GIVEN, 1, None, lambda now, events: told.append((now, events)))
    assert [now for now, _ in told] == [(number + 1) * NS for number in range(len(told))]
    assert [events for _, events in told] == sorted(events for _, events in told)


def test_a_violation_ends_the_run_and_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "checkers", lambda names: [Picky()])
    result = run(tmp_path / "run")
    (violation,) = result.violations
    assert violation.checker == "picky" and violation.now == 3 * NS
    report = read_report(tmp_path / "run" / "violations" / "1")
    assert (report.checker, report.seed, report.peer_name, report.at) == ("picky", 1, "steward-0", 3 * NS)
    assert report.scenario == GIVEN
    manifest = RunDirectory(tmp_path / "run").read_manifest()
    assert manifest.violations == 1 and manifest.simulated_s == 3.0


def test_what_breaks_outside_of_any_machine_is_a_violation_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, now: int) -> None:
        raise KeyError(f"at {now}")

    monkeypatch.setattr(Meter, "second", broken)
    (violation,) = run(tmp_path / "run").violations
    assert violation.checker == "faultless" and "KeyError" in violation.detail
    assert read_report(tmp_path / "run" / "violations" / "1").detail == violation.detail


def test_a_run_may_go_on_behind_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "checkers", lambda names: [Picky()])
    lenient = msgspec.structs.replace(GIVEN.simulation, stop_on_violation=False)
    result = run(given=msgspec.structs.replace(GIVEN, simulation=lenient))
    assert len(result.violations) == 1 and result.recorder.counts["jobs/settled"] == 1
    monkeypatch.setattr(experiment, "checkers", lambda names: [])
    assert result.auditor == run().auditor, "a checker that finds something changes nothing"


def test_adversaries_are_accounted_for() -> None:
    given = msgspec.structs.replace(GIVEN, adversaries=(Adversary(strategy="result-copier", n=1),))
    (sentence,) = run(given=given).attacks
    assert "result-copier" in sentence


def test_an_interrupted_run_is_known_as_one(tmp_path: Path) -> None:
    def interrupts(now: int, events: int) -> None:
        if now == 5 * NS:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    given = msgspec.structs.replace(GIVEN, outputs=Outputs(events=True, trace=1.0, plots=()))
    with pytest.raises(KeyboardInterrupt):
        run_seed(given, 1, folder, interrupts)
    assert RunDirectory(folder).state(given, 1) is State.PARTIAL
    assert run(folder, given=given).auditor == run().auditor
    assert RunDirectory(folder).state(given, 1) is State.COMPLETE


def test_the_manifest_names_the_program(tmp_path: Path) -> None:
    run(tmp_path / "run")
    manifest = RunDirectory(tmp_path / "run").read_manifest()
    assert {"python", *experiment.LIBRARIES} == set(manifest.versions) and all(manifest.versions.values())
    assert manifest.commit == experiment.commit() and manifest.peak_rss_bytes > 1 << 20


def test_a_library_that_is_missing_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(Refused, match="polars is not installed"):
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert run().events > 1_000, "without a folder nothing of it is needed"
