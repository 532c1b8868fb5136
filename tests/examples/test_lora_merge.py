"""examples/lora on the renter's side: hidden records decide which deltas are merged, each with its reason."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from verifier import lora, tensors
from verifier.tensors import Array

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/lora"
TORCH = ROOT / ".venv-torch/bin/python"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lora_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def merge() -> ModuleType:
    before = list(sys.path)
    found = load("merge")
    sys.path[:] = before
    return found


@pytest.fixture(scope="module")
def secret(merge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("renter") / "hidden.bin"
    merge.hide(path)
    return path


def base() -> dict[str, Array]:
    return tensors.decode((EXAMPLE / "base.safetensors").read_bytes())


def weights_of(merge: ModuleType) -> lora.LoraSpec:
    found: lora.LoraSpec = merge.specification(merge.environment(EXAMPLE / "job.yml"), base())
    return found


def delta(spec: lora.LoraSpec, size: float, rank: int = 0, seed: int = 1) -> dict[str, Array]:
    """Chance, in the shape of a delta; size 0: nothing is added."""
    chance, wide = np.random.Generator(np.random.PCG64(seed)), rank or spec.rank
    found: dict[str, Array] = {}
    for name, (outputs, inputs) in sorted(spec.targets.items()):
        found[name + lora.A] = chance.standard_normal((wide, inputs)).astype(np.float32)
        found[name + lora.B] = (size * chance.standard_normal((outputs, wide))).astype(np.float32)
    return found


def harmful(merge: ModuleType, spec: lora.LoraSpec, records: object) -> dict[str, Array]:
    """Small chance of the kind that makes the model worse on these records."""
    start = base()
    least = merge.hidden.loss(start, records)
    tried = (delta(spec, 0.02, seed=seed) for seed in range(2, 50))
    return next(one for one in tried if merge.hidden.loss(lora.merged(start, one, spec), records) > 1.01 * least)


def test_every_reason_for_which_a_delta_is_not_merged(
    merge: ModuleType, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = weights_of(merge)
    good = delta(spec, 0.0)
    name = min(good)
    handed: dict[str, dict[str, Array]] = {
        "names_differ": {key: value for key, value in good.items() if key != name},
        "rank_differs": delta(spec, 0.0, rank=3),
        "shape_differs": {**good, name: np.zeros((spec.rank, 5), np.float32)},
        "not_finite": {**good, name: np.full_like(good[name], np.nan)},
        "change_too_large": delta(spec, 9.0),
        "loss_too_high": harmful(merge, spec, merge.hidden.read(secret)),
    }
    for code, tried in handed.items():
        (tmp_path / "results" / code).mkdir(parents=True)
        (tmp_path / "results" / code / "model.safetensors").write_bytes(tensors.encode(tried))
    (tmp_path / "results/malformed_proof").mkdir()
    (tmp_path / "results/malformed_proof/model.safetensors").write_bytes(b"\xff" * 64)
    assert merge.merge(tmp_path / "results", secret, tmp_path / "merged.safetensors") == 1
    said = capsys.readouterr().out.splitlines()
    found = dict(row.split()[:2] for row in said[:-1])
    assert found == {code: code for code in (*handed, "malformed_proof")}
    assert "nothing merged" in said[-1] and not (tmp_path / "merged.safetensors").exists()


def test_another_base_is_found_by_its_digest(merge: ModuleType, secret: Path, tmp_path: Path) -> None:
    spec = weights_of(merge)
    path = tmp_path / "chunk-0" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(tensors.encode(delta(spec, 0.0)))
    found = merge.judged(path, spec, base(), b"x" * 32, merge.hidden.read(secret))
    assert (found.code, found.useful) == ("base_differs", None)


def test_what_helps_on_hidden_records_is_merged_and_has_a_bonus(merge: ModuleType, tmp_path: Path) -> None:
    """A loss made for the purpose: how far one weight is from twice itself; numpy alone."""
    spec, start = weights_of(merge), base()
    name = min(spec.targets)
    aim = 1.1 * np.asarray(start[name], np.float64)

    def loss(weights: dict[str, Array], records: object) -> float:
        return 1.0 + float(np.abs(np.asarray(weights[name], np.float64) - aim).mean())

    def towards(share: float) -> dict[str, Array]:
        """The best that rank 4 can do towards the aim, times a share."""
        up, values, down = np.linalg.svd((aim - np.asarray(start[name], np.float64)) * spec.rank / spec.alpha)
        found = delta(spec, 0.0)
        found[name + lora.A] = down[: spec.rank].astype(np.float32)
        found[name + lora.B] = (share * up[:, : spec.rank] * values[: spec.rank]).astype(np.float32)
        return found

    merge_loss: Callable[..., float] = merge.hidden.loss
    merge.hidden.loss = loss
    try:
        found = []
        for chunk, share in (("half", 0.5), ("whole", 1.0), ("nothing", 0.0)):
            path = tmp_path / chunk / "model.safetensors"
            path.parent.mkdir()
            path.write_bytes(tensors.encode(towards(share)))
            found.append(merge.judged(path, spec, start, spec.base, np.zeros((1, 12), np.int64)))
        whole, chosen = merge.soup(start, found, spec, np.zeros((1, 12), np.int64))
    finally:
        merge.hidden.loss = merge_loss
    assert [one.code for one in found] == ["ok"] * 3
    assert found[1].useful.bonus > found[0].useful.bonus > 0 == found[2].useful.bonus
    assert found[2].useful.code == "not_useful"
    assert chosen == ("whole",) and loss(whole, None) < loss(start, None)


def test_the_mean_is_taken_of_what_is_added(merge: ModuleType) -> None:
    spec, start = weights_of(merge), base()
    one, other = (lora.merged(start, delta(spec, size), spec) for size in (0.1, -0.1))
    middle = merge.mean([one, other])
    assert all(np.allclose(middle[name], start[name], atol=1e-5) for name in start)


def test_hidden_records_are_none_that_providers_have(merge: ModuleType, secret: Path) -> None:
    rows = merge.hidden.read(secret)
    known = (EXAMPLE / "records.bin").read_bytes()
    seen = {known[at : at + 12] for at in range(0, len(known), 12)}
    assert rows.shape == (merge.hidden.COUNT, 12)
    assert not seen & {bytes(row.astype(np.uint8)) for row in rows}
    assert "hidden" not in (EXAMPLE / "job.yml").read_text(encoding="utf-8").lower()
    assert merge.hidden.drawn(known) != merge.hidden.drawn(known), "drawn by chance, not by a seed that is published"


def test_records_other_than_those_promised_are_refused(
    merge: ModuleType, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yml"
    text = (EXAMPLE / "job.yml").read_text(encoding="utf-8")
    job.write_text(text.replace("  ALPHA: 8\n", f"  ALPHA: 8\n  HIDDEN_SHA256: {'0' * 64}\n"), encoding="utf-8")
    assert merge.merge(tmp_path, secret, tmp_path / "out", job) == 1
    assert "not the records" in capsys.readouterr().err


def test_misuse_says_how(merge: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert merge.main(["merge"]) == 2
    assert "merge.py hide" in capsys.readouterr().err


@pytest.mark.skipif(not TORCH.exists(), reason="no .venv-torch: `make demo` prepares it")
def test_the_loss_without_torch_is_the_loss_with_it(merge: ModuleType, secret: Path, tmp_path: Path) -> None:
    start = base()
    with (tmp_path / "base.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: np.asarray(start[name]) for name in start})
    program = (
        "import sys, json, numpy as np, torch\n"
        f"sys.path.insert(0, {str(EXAMPLE)!r})\n"
        "import adder\n"
        f"rows = np.fromfile({str(secret)!r}, np.uint8).astype(np.int64).reshape(-1, 12)\n"
        f"weights = {{k: torch.from_numpy(v).double() for k, v in np.load({str(tmp_path / 'base.npz')!r}).items()}}\n"
        "print(json.dumps(adder.loss(weights, torch.from_numpy(rows)).item()))\n"
    )
    alone = {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(TORCH), "-c", program], env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(merge.hidden.loss(start, merge.hidden.read(secret)), rel=1e-9)
