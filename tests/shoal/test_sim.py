"""shoal.sim and `shoal sim`: the two faces of the simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from protocol.errors import Refused
from shoal import sim
from shoal.cli import main
from shoal.sim import Scenario, run
from simulations.run_directory import MANIFEST, STARTED

ROOT: Final = Path(__file__).parent.parent.parent
SMALL: Final = """\
version: 1
name: small
simulation: {duration: 2m, settle: 2m, seeds: [1, 2], gossip: direct}
topology: {latency: uniform, delay: 20ms}
population: {providers: {n: 3}}
workload: {jobs: {arrival: regular 2/m, chunks: 2, chunk_time: 5s, limit: 2}}
faults: [{at: 1m, kill: {role: provider, n: 1, last: 10s}}]
outputs: {plots: [makespan]}
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small scenario in the folder where commands are given."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """What a command that must work prints with --json."""
    capsys.readouterr()
    assert main(["sim", *words, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


# ── Python ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_scenario_is_loaded_by_name_by_path_and_from_text(scenario: Path) -> None:
    assert Scenario.load("baseline").name == "baseline"
    assert Scenario.load(scenario) == Scenario.read(SMALL)
    assert Scenario.read(Scenario.load(scenario).text) == Scenario.load(scenario)


def test_a_changed_scenario_is_another_one() -> None:
    before = Scenario.read(SMALL)
    after = before.changed({"population.providers.n": 5})
    assert (before.population.providers.n, after.population.providers.n) == (3, 5)
    assert isinstance(after, Scenario)
    with pytest.raises(Refused, match="unknown key `providerz`"):
        before.changed({"population.providerz.n": 5})


def test_a_run_has_metrics_and_an_auditor() -> None:
    small = Scenario.read(SMALL)
    told: list[int] = []
    result = run(small, seed=7, on_progress=lambda now, events: told.append(now))
    assert result.violations == ()
    assert result.events > 100 and told == sorted(told) and len(told) >= 120
    assert set(result.metrics.columns) == {"seed", "name", "at_s", "peer", "value"}
    assert result.metrics["seed"].unique().to_list() == [7]
    again = run(SMALL_AGAIN, seed=7)
    assert again.auditor == result.auditor
    assert again.metrics.equals(result.metrics)
    assert run(small, seed=8).auditor != result.auditor


SMALL_AGAIN: Final = Scenario.read(SMALL)


def test_a_complete_directory_is_kept_and_an_interrupted_one_done_again(tmp_path: Path) -> None:
    small = Scenario.read(SMALL)
    first = sim.run_into(small, 1, tmp_path / "run", lambda now, events: None)
    assert not first.was_there
    assert sim.run_into(small, 1, tmp_path / "run", lambda now, events: None).was_there
    manifest = (tmp_path / "run" / MANIFEST).read_bytes()
    (tmp_path / "run" / MANIFEST).unlink()
    (tmp_path / "run" / "metrics.parquet").write_bytes(b"half")
    with pytest.raises(Refused) as caught:
        sim.run_into(small, 1, tmp_path / "run", lambda now, events: None)
    assert caught.value.code == "foreign_directory", "without a note of its start nothing is deleted"
    (tmp_path / "run" / MANIFEST).write_bytes(manifest)
    with pytest.raises(Refused) as caught:
        sim.run_into(small, 2, tmp_path / "run", lambda now, events: None)
    assert caught.value.code == "foreign_directory"
    assert not (tmp_path / "run" / STARTED).exists()


# ── command line ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_three_commands_to_a_first_plot(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "init", "mine.yaml", "--from", "churn") == {"file": "mine.yaml"}
    assert Scenario.load("mine.yaml") == Scenario.load("churn")
    made = answer(capsys, "run", "small.yaml", "--seeds", "1..2")
    assert made["folder"] == "runs/small"
    assert [Path(name).is_dir() for name in ("runs/small/seed-1", "runs/small/seed-2")] == [True, True]
    drawn = answer(capsys, "plot", "runs/small")["files"]
    assert drawn == [f"runs/small/plots/makespan.{form}" for form in ("svg", "png", "csv")]
    assert Path("runs/small/plots/makespan.svg").read_text().lstrip().startswith("<?xml")


def test_a_command_given_again_takes_what_is_there(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (answer(capsys, "run", "small.yaml", "--seed", "3")["runs"] for _ in range(2))
    assert isinstance(first, list) and isinstance(second, list)
    assert [first[0].pop("was_there"), second[0].pop("was_there")] == [False, True]
    assert first == second


def test_a_replay_tells_every_event_and_ends_with_the_same_auditor(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, "run", "small.yaml", "--seed", "3", "--out", "out")
    assert main(["sim", "replay", "out/seed-3"]) == 0
    said = capsys.readouterr()
    manifest = json.loads(Path("out/seed-3", MANIFEST).read_text())
    assert manifest["auditor"] in said.err
    assert "KILLED" in said.out and "STARTED" in said.out
    assert main(["sim", "replay", "out/seed-3", "--node", "provider-0", "--until", "10s"]) == 0
    few = capsys.readouterr().out.splitlines()
    assert 0 < len(few) < len(said.out.splitlines())
    assert all("provider-0" in line and float(line.split()[0]) <= 10 for line in few)
    assert main(["sim", "replay", "out/seed-3", "--node", "nobody", "--json"]) == 2


def test_a_run_that_is_not_the_same_is_found_out(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "run", "small.yaml", "--seed", "3", "--out", "out")
    manifest = Path("out/seed-3", MANIFEST)
    manifest.write_text(manifest.read_text().replace(json.loads(manifest.read_text())["auditor"], "0" * 32))
    assert main(["sim", "replay", "out/seed-3", "--json"]) == 3
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"] == "auditor_differs"


def test_what_is_said_about_scenarios(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = answer(capsys, "list")
    assert isinstance(listed["scenarios"], list) and len(listed["scenarios"]) == 9
    assert "ethereum-2025" in str(listed["latencies"]) and "steam-2024" in str(listed["gpus"])
    assert main(["sim", "validate", "small.yaml", "--set", "population.providers.n=9"]) == 0
    assert Scenario.read(capsys.readouterr().out).population.providers.n == 9


def test_nothing_is_overwritten(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "init", "small.yaml", "--json"]) == 3
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "file_exists"
    assert scenario.read_text() == SMALL


# ── what is loaded ───────────────────────────────────────────────────────────────────────────────────────────────────
def modules_after(statement: str, folder: Path) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return set(done.stderr.splitlines()[-1].split())


def test_importing_the_library_loads_no_figures_and_no_network(tmp_path: Path) -> None:
    loaded = modules_after("import shoal.sim", tmp_path)
    assert "simulations.scenario_file" in loaded
    assert not loaded & {"trio", "libp2p", "node", "gateway", "polars", "matplotlib", "rich", "simulations.world"}


def test_a_whole_run_loads_neither_libp2p_nor_trio(scenario: Path) -> None:
    statement = "from shoal.cli import main; assert main(['sim', 'run', 'small.yaml', '--seed', '1', '-q']) == 0"
    loaded = modules_after(statement, scenario.parent)
    assert "simulations.world" in loaded
    assert not loaded & {"trio", "libp2p", "node", "gateway", "matplotlib"}


def test_a_sweep_goes_on_where_it_was_and_is_plotted(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sweep", "small.yaml", "--grid", "population.providers.n=2,3", "--seeds", "1..2")
    first, second = answer(capsys, *words), answer(capsys, *words)
    assert first == second
    runs = first["runs"]
    assert isinstance(runs, list) and len(runs) == 4 and first["folder"] == "sweeps/small"
    files = answer(capsys, "plot", "sweeps/small")["files"]
    assert files == [f"sweeps/small/plots/makespan.{form}" for form in ("svg", "png", "csv")]
    swept = sim.sweep(scenario, {"population.providers.n": [2, 3]}, range(1, 3), out="sweeps/small")
    assert swept.failures == ()
    assert sorted(swept.metrics["point"].unique()) == ["n = 2", "n = 3"]
    assert set(swept.summary.columns) >= {"point", "name", "seeds", "mean", "low", "high"}


def test_two_runs_are_compared(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "run", "small.yaml", "--seeds", "1..2", "--out", "out")
    assert answer(capsys, "diff", "out/seed-1", "out/seed-1")["is_same"] is True
    found = answer(capsys, "diff", "out/seed-1", "out/seed-2")
    assert found["is_same"] is False and "seed" in str(found["inputs"])
    assert main(["sim", "diff", "out/seed-1", "out/seed-2"]) == 0
    assert "FIRST" in capsys.readouterr().out


def test_a_configuration_for_shadow_goes_into_a_new_folder(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL.replace("latency: uniform, delay: 20ms", "latency: ethereum-2025")
    scenario.write_text(text)
    answer(capsys, "export-shadow", "small.yaml", "--out", "shadow")
    assert Path("shadow/shadow.yaml").is_file() and Path("shadow/README.md").is_file()
    assert main(["sim", "export-shadow", "small.yaml", "--out", "shadow", "--json"]) == 3


BROKEN: Final = SMALL.replace("2/m", "1/m").replace("time: 5s", "time: 90s").replace("settle: 2m", "settle: 1s")
"""Work that cannot have ended a second after the safety phase: the liveness checker must say so."""


def test_a_violation_is_exit_code_1_is_replayed_and_minimised(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.write_text(BROKEN)
    assert main(["sim", "run", "small.yaml", "--seed", "1", "--out", "out"]) == 1
    assert "1 violations" in capsys.readouterr().err
    report = Path("out/seed-1/violations/1")
    assert main(["sim", "replay", str(report)]) == 1
    assert "violation: liveness" in capsys.readouterr().err
    made = answer(capsys, "minimise", str(report))
    assert made["faults"] == 0, "the kill is not to blame"
    assert main(["sim", "replay", str(made["folder"]), "-q"]) == 1
    assert main(["sim", "minimise", "out/seed-1", "--json"]) in (2, 3)
