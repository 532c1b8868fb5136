"""`shoal_work.run` that goes on at a unit, or only finishes: every byte is that of a run that nothing interrupted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from node.guest.work.runner import run
from node.proving.hosting import BEGIN
from shoal.jobfile import load
from tests.node.guest.work.test_runner import Doubling
from tests.node.guest.work.test_training import ROOT, TORCH, needs_torch

EXAMPLE: Final = ROOT / "examples" / "training-units"
UNITS, STOP = 4, 2

TRAINS: Final = """
import os
import shoal_work, train
folder = os.environ["SHOAL_OUT"]
for numeric in ("D1", "D3"):
    os.environ.update(NUMERIC=numeric, SHOAL_OUT=f"{folder}/{numeric}")
    shoal_work.run(train.Adder(train.Plan.from_environment(), "records.bin", "initial.safetensors"))
"""
"""Both classes in one process; torch takes seconds to load."""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROOF", "UNITS", "SEED", "CHUNK", "IN", "REPLAY", "CHALLENGE", "BEGIN"):
        monkeypatch.delenv(f"SHOAL_{name}", raising=False)


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def as_restored(whole: Path, out: Path, begin: int) -> None:
    """What a node lays out of a snapshot that was taken when `begin` units were done."""
    (out / ".shoal").mkdir(parents=True)
    effects = json.loads((whole / ".shoal" / "units.json").read_text())["effects"][:begin]
    (out / ".shoal" / "units.json").write_text(json.dumps({"effects": effects, "units": UNITS}))
    kept = [f"{index}.{kind}" for index in range(begin) for kind in ("state", "input", "aux")]
    for name in [*kept, f"{begin}.state"]:
        shutil.copyfile(whole / ".shoal" / name, out / ".shoal" / name)


@pytest.mark.parametrize("begin", [1, 2, 3])
def test_it_goes_on_at_any_unit(begin: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_PROOF", "run")
    monkeypatch.setenv("SHOAL_UNITS", str(UNITS))
    monkeypatch.setenv("SHOAL_OUT", str(tmp_path / "whole"))
    (tmp_path / "whole").mkdir()
    run(Doubling())
    as_restored(tmp_path / "whole", tmp_path / "again", begin)
    monkeypatch.setenv("SHOAL_OUT", str(tmp_path / "again"))
    monkeypatch.setenv(BEGIN, str(begin))
    work = Doubling()
    run(work)
    assert work.calls == UNITS - begin
    assert files(tmp_path / "again") == files(tmp_path / "whole")


def test_finishing_makes_the_same_output_and_computes_no_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOAL_PROOF", "run")
    monkeypatch.setenv("SHOAL_OUT", str(tmp_path / "whole"))
    (tmp_path / "whole").mkdir()
    run(Doubling())
    (tmp_path / "in" / ".shoal").mkdir(parents=True)
    shutil.copyfile(tmp_path / "whole" / ".shoal" / "3.state", tmp_path / "in" / ".shoal" / "last.state")
    (tmp_path / "out").mkdir()
    for name, value in {"PROOF": "finish", "IN": str(tmp_path / "in"), "OUT": str(tmp_path / "out")}.items():
        monkeypatch.setenv(f"SHOAL_{name}", value)
    work = Doubling()
    run(work)
    shutil.rmtree(tmp_path / "whole" / ".shoal")
    assert work.calls == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@needs_torch
def test_training_goes_on_with_its_optimizer(tmp_path: Path) -> None:
    """Weights and both moments of AdamW are the state: in another process, on the grid and in plain fp32."""
    package = tmp_path / "package" / "shoal_work"
    shutil.copytree(ROOT / "node" / "guest" / "work", package)
    (package / "face.py").replace(package / "__init__.py")
    env = {name: str(value) for name, value in load(EXAMPLE / "job.yml", {}).spec.env}
    env |= {"STEPS": "2", "SHOAL_PROOF": "run", "SHOAL_UNITS": str(UNITS), "SHOAL_SEED": "ab" * 32}
    env |= {"PYTHONPATH": f"{package.parent}:{EXAMPLE}", "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}

    def train(out: Path, **more: str) -> dict[str, bytes]:
        subprocess.run([TORCH, "-c", TRAINS], check=True, cwd=EXAMPLE, env={**env, "SHOAL_OUT": str(out), **more})
        return files(out)

    for numeric in ("D1", "D3"):
        (tmp_path / "whole" / numeric).mkdir(parents=True)
    whole = train(tmp_path / "whole")
    for numeric in ("D1", "D3"):
        as_restored(tmp_path / "whole" / numeric, tmp_path / "again" / numeric, STOP)
    assert train(tmp_path / "again", **{BEGIN: str(STOP)}) == whole
    assert whole["D1/state.shoal"] != whole["D3/state.shoal"]
