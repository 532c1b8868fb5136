"""OpenMM: how far honest platforms are apart, which cheats that leaves room for, and the job in its sandbox."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from protocol.errors import Refused
from protocol.proof import Proof, Tolerance
from tests.engines import stage
from tests.node.proving.bench import Bench
from verifier.invariants import check, drift
from verifier.scientific import compare
from verifier.score import SECOND, calibrate, score
from verifier.tensors import Tensors, decode

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "examples" / "openmm"
SEGMENTS: Final = 18
CHEATED: Final = 4
MACHINES: Final = ("reference", "cpu-1", "cpu-2", "cpu-4")
UNIT: Final = Tolerance(t_ok=30_000_000, t_bad=340_000_000)
"""What the example's job says, and what comes out of this measurement with 70 segments."""

Segment = dict[str, Tensors]


@pytest.fixture(scope="module")
def measured(dynamics: Path, guest: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Segment]:
    """Every segment by every configuration."""
    out = tmp_path_factory.mktemp("argon") / "out"
    line: list[str | Path] = [dynamics, EXAMPLE / "measure.py", out, str(SEGMENTS), str(CHEATED)]
    environment = {**os.environ, "PYTHONPATH": str(guest)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [
        {path.stem: decode(path.read_bytes()) for path in (out / str(index)).iterdir()} for index in range(SEGMENTS)
    ]


def err(segment: Segment, claimed: str, replayed: str) -> float:
    return compare(segment["start"], segment[claimed], segment[replayed], {}, {}, UNIT).err


def honest(measured: list[Segment]) -> list[float]:
    pairs = list(itertools.permutations(MACHINES, 2))
    return [err(segment, *pair) for segment in measured for pair in pairs]


def cheats(measured: list[Segment], kind: str) -> dict[str, list[float]]:
    names = [name for name in measured[0] if name.startswith(kind)]
    return {name: [err(segment, name, by) for segment in measured[:CHEATED] for by in MACHINES] for name in names}


def test_honest_machines_leave_room_for_a_tolerance(measured: list[Segment]) -> None:
    errors = honest(measured)
    assert len(errors) >= 200
    found = calibrate(errors, [e for row in cheats(measured, "cheat").values() for e in row], "openmm/argon")
    assert found.t_ok < 2 * UNIT.t_ok and found.t_bad > UNIT.t_bad / 2
    assert all(score(e, UNIT) == 10**6 for e in errors)


def test_every_cheat_is_refused(measured: list[Segment]) -> None:
    for name, errors in cheats(measured, "cheat").items():
        assert max(score(e, UNIT) for e in errors) < SECOND, (name, min(errors))


def test_single_precision_is_honest_and_a_battery_with_it_has_no_margin(measured: list[Segment]) -> None:
    """The CPU platform computes forces in single precision: who rounds to it cannot be told from it."""
    grey = [e for row in cheats(measured, "grey").values() for e in row]
    assert all(score(e, UNIT) == 10**6 for e in grey)
    with pytest.raises(Refused) as caught:
        calibrate(honest(measured), grey)
    assert caught.value.code == "no_margin"


def test_energy_is_kept_on_every_platform(measured: list[Segment]) -> None:
    for name in MACHINES:
        energies = np.array([float(np.asarray(segment[name]["history"], np.float64)[-1, 0]) for segment in measured])
        assert check("drift", drift(energies), 1e-3).code == "within_tolerance"


def test_reference_is_one_platform_and_threads_are_another(dynamics: Path, guest: Path) -> None:
    """Bitwise: Reference on any threads; CPU on one thread with itself. More threads add up in another order."""
    line = (
        "import segments as s; print(*[s.bitwise_run(t) for t in (1, 2, 4)], s.bitwise_run(1, 'CPU'), "
        "s.bitwise_run(1, 'CPU'))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{guest}:{EXAMPLE}"}
    done = subprocess.run([dynamics, "-c", line], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *reference, one, again = done.stdout.split()
    assert len(set(reference)) == 1 and one == again != reference[0]


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
async def test_the_job(bench: Bench, dynamics: Path, platform: str) -> None:
    spec = stage.spec_of(bench, "openmm", units=5, LENGTH="20", PLATFORM=platform, THREADS="2")
    claimed = await stage.claim(bench, spec)
    results = await stage.replay(bench, spec, claimed, 0, 2, 4)
    found = await stage.score(bench, spec, claimed, results)
    assert (found.fault, found.code) == ("", "within_tolerance") and found.report is not None
    assert found.report.score == 10**6
    assert (await stage.check(bench, spec, claimed)).reason == "ok"


async def test_a_job_that_leaves_steps_out(bench: Bench, dynamics: Path) -> None:
    spec = stage.spec_of(bench, "openmm", units=4, LENGTH="20")
    lazy = stage.forged(bench, spec, "segments.py", (".step(self.length)", ".step(self.length - 1)"))
    claimed = await stage.claim(bench, lazy)
    found = await stage.score(bench, spec, claimed, await stage.replay(bench, spec, claimed, 0, 2))
    assert (found.fault, found.code) == ("", "segment_differs")
    assert isinstance(spec.proof, Proof) and found.report is not None and found.report.score < SECOND
