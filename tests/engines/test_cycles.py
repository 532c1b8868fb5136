"""Blender's Cycles: what is equal to the bit, how far two kinds of processors are apart, and the job in its sandbox."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from protocol.proof import Tolerance
from tests.engines import stage
from tests.node.proving.bench import Bench
from verifier.rendering import apart
from verifier.score import SECOND, calibrate, score
from verifier.tensors import Array, decode
from verifier.variance import broken, examine

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "examples" / "blender"
FRAMES: Final = 2
TILES: Final = 16
CHALLENGES: Final = 8
OLDER: Final = {"CYCLES_CPU_NO_AVX2": "1"}
"""Makes Cycles take its kernels for processors without AVX2, whose additions round elsewhere."""
UNIT: Final = Tolerance(t_ok=810_000_000, t_bad=5_000_000_000)
"""What the example's job says: measured with 16 frames."""
CHEATS: Final = ("three bounces", "clamped light", "other seed", "dimmer lamp")

Frames = dict[tuple[int, int], Array]
Rendered = Callable[..., Frames]


@pytest.fixture(scope="module")
def rendered(cycles: Path, guest: Path, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """(frames, cheat, environment) -> sums of every tile."""
    folder = tmp_path_factory.mktemp("cycles")

    def render(frames: int, cheat: str = "", **environment: str) -> Frames:
        out = folder / f"{cheat}{environment}".replace("/", "")
        line: list[str | Path] = [
            cycles,
            "-W",
            "ignore",
            EXAMPLE / "measure.py",
            out,
            str(frames),
            *([cheat] if cheat else []),
        ]
        run = {**os.environ, "PYTHONPATH": str(guest), **environment}
        done = subprocess.run(line, env=run, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        places = [(frame, tile) for frame in range(frames) for tile in range(TILES)]
        return {at: decode((out / f"{at[0]}.{at[1]}.aux").read_bytes())["sums"] for at in places}

    return render


@pytest.fixture(scope="module")
def newer(rendered: Rendered) -> Frames:
    return rendered(FRAMES)


@pytest.fixture(scope="module")
def older(rendered: Rendered) -> Frames:
    return rendered(FRAMES, **OLDER)


@pytest.fixture(scope="module")
def cheated(rendered: Rendered) -> dict[str, Frames]:
    return {cheat: rendered(1, cheat) for cheat in CHEATS}


def err(claimed: Array, replayed: Array, challenge: int) -> float:
    """The larger distance of a square of 8 × 8 pixels with all samples, and of all pixels with one range."""
    dice = np.random.default_rng(challenge)
    top, left, which = (int(dice.integers(25)), int(dice.integers(25)), int(dice.integers(8)))
    square = np.s_[:, top : top + 8, left : left + 8]
    return max(apart(claimed[square], replayed[square]), apart(claimed[which], replayed[which]))


def honest(newer: Frames, older: Frames) -> list[float]:
    return [err(newer[at], older[at], challenge) for at in newer for challenge in range(CHALLENGES)]


def claim_error(claimed: Frames, older: Frames, seed: int) -> float:
    """The worst of all tiles: which of them an audit opens is chance, and a tile that a cheat left alone is honest."""
    return max(err(claimed[0, tile], older[0, tile], seed) for tile in range(TILES))


@pytest.mark.parametrize("environment", [{}, OLDER])
def test_equal_to_the_bit_by_any_number_of_threads(cycles: Path, guest: Path, environment: dict[str, str]) -> None:
    """Smooth normals are baked in the scene: those that Blender computes itself are another race every time."""
    line = "import render; print(*['bits', *[render.bitwise_run(threads) for threads in (1, 2, 4, 4)]])"
    run = {**os.environ, "PYTHONPATH": f"{guest}:{EXAMPLE}", **environment}
    done = subprocess.run([cycles, "-W", "ignore", "-c", line], env=run, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    bits = next(text.split()[1:] for text in done.stdout.splitlines() if text.startswith("bits"))
    assert len(bits) == 4 and len(set(bits)) == 1


def test_a_crop_of_some_samples_is_what_the_frame_has_there(cycles: Path, guest: Path) -> None:
    line = (
        "import render, numpy as n; w = render.Frame(64, 64, 16, '.', 2); _, a = w.row(1);"
        "p = w.partial(1, b'seed'); f = a['sums'].reshape(8, -1, 3);"
        "one, all = p['pixel_sums'] == f[:, p['pixels']], p['range_sums'] == a['sums'][p['range'][0]];"
        "print('equal', one.all(), all.all())"
    )
    run = {**os.environ, "PYTHONPATH": f"{guest}:{EXAMPLE}"}
    done = subprocess.run(
        [cycles, "-W", "ignore", "-c", line], env=run, cwd=guest, capture_output=True, text=True, timeout=300
    )
    assert "equal True True" in done.stdout, done.stdout + done.stderr


def test_two_kinds_of_processors_leave_room_for_a_tolerance(
    newer: Frames, older: Frames, cheated: dict[str, Frames]
) -> None:
    errors = honest(newer, older)
    assert len(errors) >= 200
    assert max(errors) > 0
    assert all(score(e, UNIT) == 10**6 for e in errors)
    cheats = [claim_error(cheated[name], older, seed) for name in CHEATS for seed in range(8)]
    found = calibrate(errors, cheats, "cycles/cpu")
    assert found.t_bad > UNIT.t_bad / 2


@pytest.mark.parametrize("cheat", CHEATS)
def test_every_cheat_is_refused(cheat: str, older: Frames, cheated: dict[str, Frames]) -> None:
    assert max(score(claim_error(cheated[cheat], older, seed), UNIT) for seed in range(8)) < SECOND


def test_cheaper_frames_break_the_variance_law(newer: Frames) -> None:
    counts = np.full(8, 8)
    assert [broken(examine(sums, counts, None)) for sums in newer.values()] == [""] * len(newer)
    enlarged = [sums[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2) for sums in newer.values()]
    assert np.mean([bool(broken(examine(sums, counts, None))) for sums in enlarged]) > 0.6


@pytest.mark.parametrize("numeric", ["D2", "D3"])
async def test_the_job(bench: Bench, cycles: Path, numeric: str) -> None:
    spec = stage.spec_of(bench, "blender", units=4, WIDTH="64", HEIGHT="64", SAMPLES="16", NUMERIC=numeric)
    claimed = await stage.claim(bench, spec, "bwrap")
    assert set(claimed.files) == {"state.shoal", "region.pfm", "region.png"}
    results = await stage.replay(bench, spec, claimed, 0, 1, 3, tier="bwrap")
    if numeric == "D2":
        assert all(stage.is_equal(claimed, unit) for unit in results.units)
        return
    found = await stage.score(bench, spec, claimed, results)
    assert (found.fault, found.code) == ("", "within_tolerance"), found
    assert found.report is not None and all(unit.err == 0 for unit in found.report.units)


async def test_a_job_with_half_the_samples(bench: Bench, cycles: Path) -> None:
    spec = stage.spec_of(bench, "blender", units=4, WIDTH="64", HEIGHT="64", SAMPLES="16")
    cheap = ("first, last - first\n", "first, 1\n")
    claimed = await stage.claim(bench, stage.forged(bench, spec, "render.py", cheap))
    found = await stage.score(bench, spec, claimed, await stage.replay(bench, spec, claimed, 0, 3))
    assert (found.fault, found.code) == ("", "pixels_differ")
