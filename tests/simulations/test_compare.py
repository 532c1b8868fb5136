"""Two runs side by side: equal, different in their inputs, different from some event on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from protocol.errors import Refused
from protocol.messages import CancelChunk
from simulations import compare, scenario_file
from simulations.event_log import EventLog
from simulations.recorder import Recorder
from simulations.run_directory import Manifest, RunDirectory, scenario_hash
from simulations.scenario import Scenario
from tests.simulations.runs import SCENARIO

OTHER = scenario_file.changed(SCENARIO, {"population.providers.n": 4, "topology.loss": 0.5})
MANIFEST = Manifest(
    name="small", scenario="", seed=1, auditor="aa", simulated_s=60.0, events=10, wall_s=0.5, events_per_s=20.0
)


def run(
    path: Path,
    scenario: Scenario = SCENARIO,
    auditor: str = "aa",
    makespan: float = 100.0,
    reasons: tuple[str, ...] = (),
    checkpoints: tuple[tuple[float, str], ...] = (),
) -> Path:
    directory = RunDirectory(path)
    directory.start(scenario, 1, scenario_file.text_of(scenario))
    recorder = Recorder()
    recorder.sample("job/makespan", makespan, 5)
    recorder.count("messages/sent", 7)
    if auditor == "bb":
        recorder.count("messages/lost", 1)
    directory.record(recorder, 1)
    if reasons:
        log = EventLog(path / "events.jsonl.zst")
        for at, reason in enumerate(reasons):
            log.sent(0, 1, CancelChunk(bytes(16), 3, 1, reason), at * 10**9, at * 10**9)
        log.close()
    directory.finish(
        msgspec.structs.replace(
            MANIFEST, scenario=scenario_hash(scenario), auditor=auditor, checkpoints=checkpoints, commit=auditor
        )
    )
    return path


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    found = compare.diff(run(tmp_path / "a"), run(tmp_path / "b"))
    assert found == compare.Difference(is_same=True, inputs=(), parting=None, changes=())


def test_inputs_and_figures_that_differ(tmp_path: Path) -> None:
    found = compare.diff(run(tmp_path / "a"), run(tmp_path / "b", OTHER, "bb", makespan=150.0))
    assert not found.is_same
    by_key = {one.key: (one.first, one.second) for one in found.inputs}
    assert by_key.pop("topology.loss")[1] in ("0.5", "50%")
    assert by_key == {"commit": ("aa", "bb"), "population.providers.n": ("3", "4")}
    lost, slower = found.changes
    assert (lost.name, lost.first, lost.second, lost.relative) == ("messages/lost", None, 1.0, None)
    assert (slower.name, slower.first, slower.second, slower.relative) == ("job/makespan", 100.0, 150.0, 0.5)


def test_the_first_event_that_differs(tmp_path: Path) -> None:
    one = run(tmp_path / "a", reasons=("x", "y", "z"))
    parting = compare.diff(one, run(tmp_path / "b", auditor="bb", reasons=("x", "OTHER", "z"))).parting
    assert parting is not None
    assert (parting.number, parting.at_s) == (1, 1.0)
    assert parting.first != parting.second
    short = compare.diff(one, run(tmp_path / "c", auditor="bb", reasons=("x", "y"))).parting
    assert short is not None
    assert (short.number, short.second) == (2, "nothing: the run was over")


def test_checkpoints_tell_where_logs_are_missing(tmp_path: Path) -> None:
    one = run(tmp_path / "a", checkpoints=((60.0, "11"), (120.0, "22"), (180.0, "33")))
    other = run(tmp_path / "b", auditor="bb", checkpoints=((60.0, "11"), (120.0, "99"), (180.0, "98")))
    parting = compare.diff(one, other).parting
    assert parting == compare.Parting(-1, 60.0, "auditor 22 at 120 s", "auditor 99 at 120 s")
    assert compare.diff(one, run(tmp_path / "c", auditor="bb")).parting is None


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        compare.diff(run(tmp_path / "a"), tmp_path / "nothing")
    assert refused.value.code == "no_run"
