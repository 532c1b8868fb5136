"""examples/train: the same weights every time, and the best of the sweep is returned."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from shoal.jobfile import load

RunJob = Callable[[str, Path, Mapping[str, str], Path], dict[str, bytes]]
ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "examples" / "train"
TORCH: Final = ROOT / ".venv-torch" / "bin" / "python"


def test_the_sweep_is_the_product(tmp_path: Path) -> None:
    spec = load(FOLDER / "job.yml", {}).spec
    assert len({chunk.env for chunk in spec.chunks}) == 8
    assert spec.chunks[0].env == (("LR", "0.0003"), ("HIDDEN", "32"))


def test_the_best_run_is_returned(tmp_path: Path) -> None:
    runs = [(0.90, 0.5), (0.97, 0.3), (0.97, 0.2), (0.95, 0.1)]
    for number, (accuracy, loss) in enumerate(runs):
        chunk = tmp_path / "chunks" / str(number)
        chunk.mkdir(parents=True)
        figures = {"lr": 0.1, "hidden": 8, "accuracy": accuracy, "history": [{"loss": 9.0}, {"loss": loss}]}
        (chunk / "metrics.json").write_text(json.dumps(figures))
        (chunk / "model.safetensors").write_bytes(b"%d" % number)
    (tmp_path / "out").mkdir()
    env = {"SHOAL_IN": str(tmp_path), "SHOAL_OUT": str(tmp_path / "out")}
    subprocess.run([sys.executable, FOLDER / "best.py"], env=env, check=True, capture_output=True, timeout=300)
    assert (tmp_path / "out" / "best.safetensors").read_bytes() == b"2"
    board = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert [run["chunk"] for run in board] == [2, 1, 3, 0]


@pytest.mark.skipif(not TORCH.exists(), reason="the jobs' environment .venv-torch is not there; `make demo` makes it")
def test_two_runs_give_the_same_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sizes = ["--epochs", "2", "--hidden", "16", "--lr", "0.02"]
        train = [str(TORCH), str(FOLDER / "train.py"), *sizes, "--out", str(tmp_path / name)]
        done = subprocess.run(train, env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "epoch   2/2" in done.stdout
    first, second = tmp_path / "a", tmp_path / "b"
    assert sorted(path.name for path in first.iterdir()) == ["metrics.json", "model.safetensors"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    assert json.loads((first / "metrics.json").read_text())["accuracy"] > 0.8
