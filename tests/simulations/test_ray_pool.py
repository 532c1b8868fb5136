"""The same pool over a Ray cluster of this machine; skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from protocol.errors import Refused
from simulations import ray_pool, sweep
from simulations.seed_pool import Outcome, Task
from tests.simulations.runs import SCENARIO, break_two, refuse_two

HAS_RAY = importlib.util.find_spec("ray") is not None


def test_missing_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(task: Task, outcome: Outcome) -> None:
        raise AssertionError(task)

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Refused) as refused:
        ray_pool.run_all([], refuse_two, 2, told)
    assert refused.value.fix == "Run `pip install 'shoal[ray]'`."


@pytest.mark.skipif(not HAS_RAY, reason="needs the extra `ray`")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray", "ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_sweep_runs_on_a_local_cluster(tmp_path: Path) -> None:
    swept = sweep.sweep(SCENARIO, {}, (1, 2, 3), tmp_path, refuse_two, jobs=2, pool=ray_pool.run_all)
    assert [(task.seed, outcome.code) for task, outcome in swept.failures] == [(2, "disk_full")]
    [group] = swept.groups()
    assert group.seeds == 2
    assert sorted(group.metrics["seed"].unique()) == [1, 3]


@pytest.mark.skipif(not HAS_RAY, reason="needs the extra `ray`")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray", "ignore::ResourceWarning", "ignore::DeprecationWarning:ray")
def test_a_bug_in_a_worker_is_an_outcome(tmp_path: Path) -> None:
    swept = sweep.sweep(SCENARIO, {}, (1, 2), tmp_path, break_two, jobs=2, pool=ray_pool.run_all)
    [(task, outcome)] = swept.failures
    assert (task.seed, outcome.code) == (2, "crashed")
    assert "KeyError" in outcome.detail
