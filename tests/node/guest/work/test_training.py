"""node/guest/work/training.py: units of training that two machines compute alike, by NumPy alone and by torch."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest.work import dice, records, tensors, training
from node.guest.work.plan import Plan
from protocol import merkle
from shoal.jobfile import load
from tests.adversarial import small_training as small
from verifier import lora
from verifier import tensors as strict
from verifier import training as judge
from verifier.score import ACCEPT

ROOT: Final = Path(__file__).parents[4]
TORCH: Final = ROOT / ".venv-torch" / "bin" / "python"
ENVIRONMENT: Final = {
    "OPTIMIZER": "adamw", "LEARNING_RATE": "0.003", "BATCH": "32", "STEPS": "5", "RECORD_BYTES": "9",
    "DATA_ROOT": "ab" * 32,
}  # fmt: skip

KNOWN: Final = {
    "sgd": "14bacf5533acafbd61c5bd46c82e2524befc359eccd6e4f7536b52159833e674",
    "adamw": "bcd801e77cc8ee9b6b31ac24424a8a14115137b29ebefb696084d98d9f5c0024",
    "torch": "04cd63c97f38cbd1b42fa5e619df91cb7bf15c442913fa97509110651f78f19e",
}
"""SHA-256 of last states on the grid, computed by an AMD EPYC: what every other machine has to get as well."""

needs_torch = pytest.mark.skipif(not TORCH.exists(), reason="the jobs' environment .venv-torch is not there")


def test_a_plan_is_read_from_the_environment() -> None:
    plan = Plan.from_environment(ENVIRONMENT)
    assert (plan.numeric, plan.is_exact, plan.epsilon, plan.moments) == ("D1", True, 1e-4, ("momentum/", "variance/"))
    other = Plan.from_environment({**ENVIRONMENT, "NUMERIC": "D3", "OPTIMIZER": "sgd", "MOMENTUM": "0"})
    assert (other.is_exact, other.moments) == (False, ())
    assert plan.digest != other.digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPTIMIZER", "lion"), ("NUMERIC", "D2"), ("LEARNING_RATE", "0"), ("LEARNING_RATE", "nan"), ("BATCH", "0"),
        ("STEPS", "-1"), ("DATA_ROOT", "ab"), ("RECORD_BYTES", "x"),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_none(name: str, value: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        Plan.from_environment({**ENVIRONMENT, name: value})


@given(name=st.sampled_from(["LEARNING_RATE", "MOMENTUM", "SECOND_MOMENT", "WEIGHT_DECAY", "EPSILON", "BATCH"]))
def test_every_number_of_a_plan_is_in_its_digest(name: str) -> None:
    assert Plan.from_environment(ENVIRONMENT).digest != Plan.from_environment({**ENVIRONMENT, name: "7"}).digest


@given(rows=st.integers(1, 20), size=st.integers(1, 5))
def test_a_data_set_has_the_root_of_the_ledgers_tree(rows: int, size: int) -> None:
    data = dice.Dice(b"rows").integers(256, rows * size).astype(np.uint8).reshape(rows, size)
    tree = merkle.Tree([row.tobytes() for row in data])
    assert records.root_of(data) == tree.root


@given(value=st.floats(0, 1), times=st.integers(0, 10_000))
def test_a_power_is_a_power(value: float, times: int) -> None:
    assert training.power(value, times) == pytest.approx(value**times, rel=1e-10, abs=1e-300)


@given(value=st.floats(-1e4, 1e4), bits=st.sampled_from([24, 28, 48]))
def test_the_grid_is_of_multiples(value: float, bits: int) -> None:
    rounded = float(training.on_grid(np.array([value]), bits)[0])
    assert abs(rounded - value) <= 2.0 ** -(bits + 1)
    assert (rounded * 2.0**bits).is_integer()
    assert float(training.on_grid(np.array([rounded]), bits)[0]) == rounded


@pytest.mark.parametrize("numeric", ["D1", "D3"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_learns_and_any_unit_of_it_is_computed_again(optimizer: str, numeric: str, tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path, optimizer, numeric), 4)
    assert np.mean(np.asarray(told[3]["losses"], float)) < np.mean(np.asarray(told[0]["losses"], float))
    again, aux = small.unit(small.work(tmp_path, optimizer, numeric), states[2], 2)
    assert tensors.encode(again) == tensors.encode(states[3])
    assert tensors.encode(dict(aux)) == tensors.encode(told[2])
    assert ("gradient" in aux) == (numeric == "D3")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_this_machine_gets_on_the_grid_what_another_got(optimizer: str, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer, "D1"), 8)
    assert hashlib.sha256(tensors.encode(states[8])).hexdigest() == KNOWN[optimizer]


def test_a_unit_starts_at_its_own_step(tmp_path: Path) -> None:
    job = small.work(tmp_path)
    states, _ = small.chain(job, 2)
    with pytest.raises(ValueError, match="begins at step 5"):
        job.step(states[2], 1)


def test_a_run_that_leaves_the_numbers_stops(tmp_path: Path) -> None:
    job = small.work(tmp_path, rate=1e30)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        small.chain(job, 8)


def test_optimizers_do_what_they_say(tmp_path: Path) -> None:
    """Beside the textbook, in numbers."""
    small.lay_out(tmp_path)
    plan = small.plan("adamw", "D3", bytes(32))
    weight, gradient = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    after, first, second = training.adamw(plan, weight, gradient, [np.zeros(2), np.zeros(2)], 1)
    assert first == pytest.approx(0.1 * gradient)
    assert second == pytest.approx(0.001 * gradient**2)
    assert after == pytest.approx(weight - plan.rate * gradient / (gradient + plan.epsilon))
    moved, momentum = training.sgd(small.plan("sgd", "D3", bytes(32)), weight, gradient, [np.array([1.0, 1.0])])
    assert momentum == pytest.approx(0.9 + gradient)
    assert moved == pytest.approx(weight - 0.05 * (0.9 + gradient))


def test_a_long_gradient_is_told_as_a_sketch_that_keeps_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "GRADIENT_MAX", 1 << 17)
    chance = np.random.Generator(np.random.PCG64(3))
    gradient = chance.standard_normal(300_000)
    other = gradient + 1e-3 * chance.standard_normal(300_000)
    ours, theirs = (training.told({"w": each}, b"s" * 32) for each in (gradient, other))
    assert ours.size == training.SKETCH
    assert judge.relative(theirs, ours) == pytest.approx(judge.relative(other, gradient), rel=0.05)
    assert not np.array_equal(ours, training.told({"w": gradient}, b"t" * 32))


def test_a_base_model_is_the_one_that_was_named(tmp_path: Path) -> None:
    data = tensors.encode({"w": np.ones(3, np.float32)})
    (tmp_path / "base").write_bytes(data)
    found = training.tensors_of(tmp_path / "base", hashlib.sha256(data).hexdigest())
    assert found["w"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="not the file"):
        training.tensors_of(tmp_path / "base", "00" * 32)


@pytest.mark.parametrize("name", ["training-units", "lora"])
def test_the_examples_name_their_own_files(name: str) -> None:
    job = load(ROOT / "examples" / name / "job.yml", {})
    env = dict(job.spec.env)
    plan = Plan.from_environment(env)
    data = (ROOT / "examples" / name / "records.bin").read_bytes()
    assert plan.root == records.root_of(np.frombuffer(data, np.uint8).reshape(-1, plan.record_bytes))
    assert (plan.numeric, job.spec.units > 0) == (job.spec.numeric, True)
    if name == "lora":
        base = (ROOT / "examples" / name / "base.safetensors").read_bytes()
        assert env["BASE_SHA256"] == hashlib.sha256(base).hexdigest()


def run_example(name: str, folder: Path, threads: int, isa: str, changes: dict[str, str], units: int) -> Path:
    """The program of an example as a sandbox runs it, on an emulated machine; the folder of its outputs."""
    shutil.copytree(ROOT / "examples" / name, folder / "in", ignore=shutil.ignore_patterns("__pycache__"))
    with importlib.resources.as_file(importlib.resources.files("node.guest.work")) as package:
        shutil.copytree(package, folder / "sdk" / "shoal_work", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(folder / "sdk" / "shoal_work" / "face.py", folder / "sdk" / "shoal_work" / "__init__.py")
    lines = (folder / "in" / "job.yml").read_text(encoding="utf-8").split("env:\n")[1].split("commands:")[0]
    said = dict(line.strip().split(": ") for line in lines.splitlines())
    out = folder / "out"
    out.mkdir()
    place = {
        "PYTHONPATH": str(folder / "sdk"), "PYTHONDONTWRITEBYTECODE": "1", "ATEN_CPU_CAPABILITY": isa,
        "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "SHOAL_PROOF": "run",
        "SHOAL_UNITS": str(units), "SHOAL_SEED": "5a" * 32, "SHOAL_OUT": str(out), "SHOAL_IN": str(folder / "in"),
    }  # fmt: skip
    done = subprocess.run(
        [TORCH, "train.py"], cwd=folder / "in", env={**os.environ, **said, **changes, **place},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@needs_torch
def test_torch_on_two_machines_gives_the_same_bytes_on_the_grid(tmp_path: Path) -> None:
    one = run_example("training-units", tmp_path / "one", 1, "default", {}, 2)
    other = run_example("training-units", tmp_path / "other", 2, "avx2", {}, 2)
    ours, theirs = ({path.name: path.read_bytes() for path in (out / ".shoal").iterdir()} for out in (one, other))
    assert len(ours) == 3 + 2 + 2 + 1
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert hashlib.sha256(ours["2.state"]).hexdigest() == KNOWN["torch"]


@needs_torch
def test_torch_on_two_machines_is_within_the_tolerance_in_fp32(tmp_path: Path) -> None:
    change = {"NUMERIC": "D3"}
    folders = [
        run_example("training-units", tmp_path / "one", 1, "default", change, 1) / ".shoal",
        run_example("training-units", tmp_path / "other", 2, "avx2", change, 1) / ".shoal",
    ]
    start, claimed, replayed, aux, other = (
        strict.decode(path.read_bytes())
        for path in (
            folders[0] / "0.state",
            folders[0] / "1.state",
            folders[1] / "1.state",
            folders[0] / "0.aux",
            folders[1] / "0.aux",
        )
    )
    assert strict.encode(claimed) != strict.encode(replayed)
    code, ppm = small.verdict(start, (claimed, aux), (replayed, other), "adamw")
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)


@needs_torch
def test_a_delta_of_the_example_is_what_its_job_asked_for(tmp_path: Path) -> None:
    out = run_example("lora", tmp_path, 1, "default", {}, 4)
    base_file = (ROOT / "examples" / "lora" / "base.safetensors").read_bytes()
    base, delta = strict.decode(base_file), strict.decode((out / "model.safetensors").read_bytes())
    targets = {name: (32, 32) for name in base if name.endswith(("query.weight", "value.weight"))}
    spec = lora.LoraSpec(hashlib.sha256(base_file).digest(), 4, 8, targets)
    lora.check_delta(delta, spec, base, hashlib.sha256(base_file).digest())
    assert all(lora.change_of(delta[n + lora.A], delta[n + lora.B], 2.0, base[n]) > 1e-3 for n in targets)
    for name in ("adder.py", "records.bin"):
        ours, theirs = (ROOT / "examples" / folder / name for folder in ("lora", "training-units"))
        assert ours.read_bytes() == theirs.read_bytes()
