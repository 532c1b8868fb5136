"""Run directories: complete, partial, foreign, empty; never half-read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from protocol.errors import Refused
from simulations.recorder import Recorder
from simulations.run_directory import MANIFEST, STARTED, Manifest, RunDirectory, State, scenario_hash
from simulations.scenario import Group, Population, Scenario, Simulation

SCENARIO = Scenario(name="small", simulation=Simulation(duration=60), population=Population(providers=Group(n=3)))
OTHER = msgspec.structs.replace(SCENARIO, name="other")


def manifest(scenario: Scenario = SCENARIO, seed: int = 7) -> Manifest:
    return Manifest(
        name=scenario.name, scenario=scenario_hash(scenario), seed=seed, auditor="ab" * 16, simulated_s=60.0, events=10,
        wall_s=0.5, events_per_s=20.0, versions={"python": "3.11"},
    )  # fmt: skip


def complete(path: Path) -> RunDirectory:
    directory = RunDirectory(path)
    directory.start(SCENARIO, 7, "version: 1\n")
    recorder = Recorder()
    recorder.sample("job/makespan", 90.0, 5, 1)
    recorder.observe("gossip/hops", 3)
    directory.record(recorder, 7)
    directory.write("plots/makespan.svg", b"<svg/>")
    directory.finish(manifest())
    return directory


def test_a_complete_run_reads_back(tmp_path: Path) -> None:
    directory = complete(tmp_path / "run")
    read = directory.read_manifest()
    assert read.auditor == "ab" * 16
    assert sorted(read.files) == [
        "README.md",
        "histograms.parquet",
        "metrics.parquet",
        "plots/makespan.svg",
        "scenario.yaml",
    ]
    assert directory.metrics()["value"].to_list()[0] == 90.0
    assert directory.histograms()["low"].to_list() == [3]
    assert not (directory.path / STARTED).exists()
    assert "shoal sim replay ." in (directory.path / "README.md").read_text()


def test_states(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    assert directory.state(SCENARIO, 7) is State.EMPTY
    directory.path.mkdir()
    assert directory.state(SCENARIO, 7) is State.EMPTY
    directory.start(SCENARIO, 7, "version: 1\n")
    assert directory.state(SCENARIO, 7) is State.PARTIAL
    assert directory.state(SCENARIO, 8) is State.FOREIGN
    assert directory.state(OTHER, 7) is State.FOREIGN
    directory.finish(manifest())
    assert directory.state(SCENARIO, 7) is State.COMPLETE
    assert directory.state(SCENARIO, 8) is State.FOREIGN


def test_more_seeds_are_the_same_scenario() -> None:
    more = msgspec.structs.replace(SCENARIO, simulation=msgspec.structs.replace(SCENARIO.simulation, seeds=(1, 2, 3)))
    assert scenario_hash(more) == scenario_hash(SCENARIO) != scenario_hash(OTHER)


def test_a_partial_run_is_done_again_and_what_it_left_is_gone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.start(SCENARIO, 7, "version: 1\n")
    directory.write("plots/timeline.svg", b"old")
    directory.write("metrics.csv", b"old")
    (directory.path / ".events.jsonl.zst.part").write_bytes(b"cut")
    (directory.path / "my notes.txt").write_text("a researcher's own")
    directory.start(SCENARIO, 7, "version: 1\n")
    left = sorted(item.relative_to(directory.path).as_posix() for item in directory.path.rglob("*"))
    assert left == ["my notes.txt", "scenario.yaml", "started.json"]


def test_foreign_directories_are_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(Refused) as refused:
        RunDirectory(tmp_path).start(SCENARIO, 7, "")
    assert refused.value.code == "foreign_directory"
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_scenarios_run_is_refused_by_name(tmp_path: Path) -> None:
    complete(tmp_path / "run")
    with pytest.raises(Refused, match=r"a run of small, .* seed 7") as refused:
        RunDirectory(tmp_path / "run").start(OTHER, 7, "")
    assert refused.value.code == "foreign_directory"


def test_a_complete_run_is_not_overwritten(tmp_path: Path) -> None:
    directory = complete(tmp_path / "run")
    with pytest.raises(Refused) as refused:
        directory.start(SCENARIO, 7, "")
    assert refused.value.code == "run_complete"


def test_partial_runs_are_not_read(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.start(SCENARIO, 7, "")
    for read in (directory.read_manifest, directory.metrics, directory.histograms):
        with pytest.raises(Refused) as refused:
            read()
        assert refused.value.code == "partial_run"
    with pytest.raises(Refused) as refused:
        RunDirectory(tmp_path / "nothing").read_manifest()
    assert refused.value.code == "no_run"


@pytest.mark.parametrize("damage", ["missing", "cut", "manifest"])
def test_damaged_runs_are_not_read(damage: str, tmp_path: Path) -> None:
    directory = complete(tmp_path / "run")
    victim = directory.path / (MANIFEST if damage == "manifest" else "metrics.parquet")
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:50])
    with pytest.raises(Refused) as refused:
        directory.metrics()
    assert refused.value.code == "bad_run"
    assert directory.state(SCENARIO, 7) is State.FOREIGN


def test_a_full_disk_leaves_a_partial_run(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.start(SCENARIO, 7, "")
    (directory.path / ".manifest.json.part").symlink_to("/dev/full")
    with pytest.raises(Refused) as refused:
        directory.finish(manifest())
    assert refused.value.code == "disk_full"
    assert directory.state(SCENARIO, 7) is State.PARTIAL


def test_plots_may_be_drawn_again(tmp_path: Path) -> None:
    directory = complete(tmp_path / "run")
    directory.write("plots/makespan.svg", b"<svg>better</svg>")
    assert directory.read_manifest().seed == 7
