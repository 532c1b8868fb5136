"""examples/render-units and examples/montecarlo: real sandboxes, exact numbers, and cheats that are found."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from node.executors.bwrap import BwrapExecutor
from tests.engines import stage
from tests.node.proving.bench import Bench

ROOT: Final = Path(__file__).parents[2]
SMALL: Final = {"WIDTH": "64", "HEIGHT": "256", "SAMPLES": "16"}
CONFIGURATIONS: Final = [
    {},
    {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3"},
]
"""NumPy with all vector instructions that are here, without the newest, and without any."""


@pytest.mark.parametrize(("example", "module"), [("render-units", "render"), ("montecarlo", "pi")])
def test_the_same_bits_by_any_threads_and_instructions(example: str, module: str, guest: Path) -> None:
    line = f"import {module}; print(*[{module}.bitwise_run(threads) for threads in (1, 2, 4)])"
    found: set[str] = set()
    for environment in CONFIGURATIONS:
        path = f"{guest}:{ROOT / 'examples' / example}"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", line],
            env={"PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        found |= set(done.stdout.split())
    assert len(found) == 1 and len(found.pop()) == 64


MATRIX: Final = """
import sys
sys.path[:0] = [%r]
from concurrent.futures import ThreadPoolExecutor
from node.guest.work.ball import Ball
from node.guest.work.scientific import Darts
for seed in range(25):
    tile, darts = Ball(32, 8), Darts(2000)
    tile.seed = darts.seed = bytes([seed]) * 32
    for threads in (1, 2, 4):
        with ThreadPoolExecutor(threads) as pool:
            rows = list(pool.map(tile.row, [0] * 2)) + list(pool.map(darts.row, range(4)))
        print(seed, *[row.tobytes().hex() for row, _ in rows[1:]])
"""


def test_two_hundred_honest_runs_agree_in_every_bit() -> None:
    """Threads × instructions × seeds, each set of instructions in its own process: no false rejects."""
    found: dict[str, set[str]] = {}
    runs = 0
    for environment in CONFIGURATIONS:
        line = [sys.executable, "-W", "ignore", "-c", MATRIX % str(ROOT)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        for text in done.stdout.splitlines():
            seed, _, said = text.partition(" ")
            found.setdefault(seed, set()).add(said)
            runs += 1
    assert runs == 225
    assert len(found) == 25 == len({said for digests in found.values() for said in digests})


@pytest.mark.parametrize("tier", ["child", "bwrap"])
async def test_a_picture_in_tiles(bench: Bench, tier: str) -> None:
    if tier == "bwrap" and (why := await BwrapExecutor("probe").why_not()):
        pytest.skip(why)
    spec = stage.spec_of(bench, "render-units", units=4, **SMALL)
    claimed = await stage.claim(bench, spec, tier)
    assert set(claimed.files) == {"state.shoal", "region.pfm", "region.png"}
    results = await stage.replay(bench, spec, claimed, 0, 2, 3, tier=tier)
    assert [stage.is_equal(claimed, unit) for unit in results.units] == [True] * 3
    assert results.output == claimed.done.output


CHEATS: Final = {
    "half the samples": ('SAMPLES") or 64)', 'SAMPLES") or 64) // 2'),
    "one pixel": ("return steps.sum(axis=1), (", "steps[0, 0] += len(xs) == 1024; return steps.sum(axis=1), ("),
}


@pytest.mark.parametrize("cheat", sorted(CHEATS))
async def test_a_cheaper_picture_ends_elsewhere(bench: Bench, cheat: str) -> None:
    spec = stage.spec_of(bench, "render-units", units=4, **SMALL)
    claimed = await stage.claim(bench, stage.forged(bench, spec, "render.py", CHEATS[cheat]))
    results = await stage.replay(bench, spec, claimed, 0, 3)
    assert not any(stage.is_equal(claimed, unit) for unit in results.units)


async def test_the_same_program_forged_in_nothing_is_equal(bench: Bench) -> None:
    """The cheats above differ by what they do, not by being another file."""
    spec = stage.spec_of(bench, "render-units", units=4, **SMALL)
    claimed = await stage.claim(bench, stage.forged(bench, spec, "render.py"))
    results = await stage.replay(bench, spec, claimed, 0, 3)
    assert all(stage.is_equal(claimed, unit) for unit in results.units)


async def test_streams_are_replayed_exactly_and_all_of_them_add_up(bench: Bench) -> None:
    spec = stage.spec_of(bench, "montecarlo", units=8, DARTS="20000")
    claimed = await stage.claim(bench, spec)
    hits, darts = json.loads(claimed.files["total.json"])["total"]
    assert darts == 8 * 20_000 and abs(4 * hits / darts - math.pi) < 0.03
    results = await stage.replay(bench, spec, claimed, 0, 5, 7)
    assert all(stage.is_equal(claimed, unit) for unit in results.units)
    done = await stage.check(bench, spec, claimed)
    assert (done.reason, done.output) == ("ok", claimed.done.output)


async def test_a_total_that_nobody_summed_fails_the_check(bench: Bench) -> None:
    spec = stage.spec_of(bench, "montecarlo", units=4, DARTS="1000")
    claimed = await stage.claim(bench, stage.forged(bench, spec, "pi.py", ("class Darts(Streams):", FORGED)))
    done = await stage.check(bench, spec, claimed)
    assert done.reason == "exit" and any("sum_differs" in line for line in bench.lines)


FORGED: Final = """class Darts(Streams):
    def finish(self, state, out):
        (out / "total.json").write_text('{"root": "00", "streams": 4, "total": [3142, 4000]}')

    # The rest is as it was.
"""
