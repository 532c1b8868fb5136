"""Do honest machines agree? Threads × instruction sets, each in its own process, against the cheats.

python -m benchmarks.honest_matrix --runs 225 --out docs/honest-matrix.md

Every configuration computes the same units of examples/training-units; every pair is compared as a claim and its audit
would be. From the errors between the first configuration and the others come the tolerances of the fp32 classes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks import honest_table
from benchmarks.honest_plugins import PLUGINS, Plugin
from benchmarks.honest_table import Cheat, Honest, Matrix
from benchmarks.honest_worker import KINDS, Orders
from protocol.errors import Refused
from protocol.proof import Tolerance
from verifier import tensors, training
from verifier.calibration import Profile, profile_of
from verifier.score import score
from verifier.tensors import Tensors

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "examples" / "training-units"
PYTHON: Final = ROOT / ".venv-torch" / "bin" / "python"

THREADS: Final = (1, 2, 4)
INSTRUCTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "default": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    },
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    },
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
"""`ATEN_CPU_CAPABILITY` -> caps of the libraries below torch, and of NumPy."""

UNITS: Final = 8
"""Units of a chunk: early, in the middle and late."""

CHUNKS: Final = 3
"""Whole chunks of each bitwise class, on every configuration."""

CHEAT_SEEDS: Final = 16
"""Runs of each cheat, two in each of the units."""

GREY: Final = ("10 int8 weights",)
"""Cheats that are shown but set no tolerance (row 10 of the list of attacks)."""

ABOUT: Final = "transformer of 17,952 numbers, batch 32, units of 5 steps, Linux x86-64 CPU"


class Config(Struct, frozen=True):
    """One emulated machine."""

    threads: int
    instructions: str

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.threads} × {self.instructions}"

    def environment(self, sdk: Path) -> dict[str, str]:
        """For a process of it."""
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return {
            **os.environ,
            **INSTRUCTIONS[self.instructions],
            **dict.fromkeys(threads, str(self.threads)),
            "ATEN_CPU_CAPABILITY": self.instructions,
            "OMP_WAIT_POLICY": "PASSIVE",
            "GOMP_SPINCOUNT": "0",
            "PYTHONPATH": f"{sdk}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


CONFIGS: Final = tuple(Config(threads, isa) for threads, isa in itertools.product(THREADS, INSTRUCTIONS))


def main(words: Sequence[str]) -> int:
    """Measure, write the document, print the profiles; the exit status says whether a bitwise class differed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.honest_matrix", description=__doc__)
    parser.add_argument("--runs", type=int, default=225, help="honest runs of each class; 225 calibrate")
    parser.add_argument("--out", type=Path, default=Path("docs/honest-matrix.md"))
    parser.add_argument("--only", nargs="*", choices=sorted(KINDS), default=sorted(KINDS, key=list(KINDS).index))
    options = parser.parse_args(words)
    if not PYTHON.exists():
        parser.error("the jobs' environment .venv-torch is not there: `make demo` prepares it")
    seeds = math.ceil(options.runs / len(CONFIGS))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="honest-") as name:
        folder = Path(name)
        compute(folder, options.only, seeds)
        honest = [honest_runs(folder, kind, seeds) for kind in options.only]
        profiles = [calibrated(folder, one) for one in honest]
        cheats = [cheat_runs(folder, kind, profile) for kind, profile in zip(options.only, profiles, strict=True)]
        plugins = [(plugin, plugged(plugin, folder)) for plugin in PLUGINS if plugin.can_run(ROOT)]
    honest = [
        judged(one, profile.tolerance if isinstance(profile, Profile) else None)
        for one, profile in zip(honest, profiles, strict=True)
    ]
    matrix = Matrix(honest, profiles, cheats, plugins, [config.name for config in CONFIGS], time.monotonic() - began)
    options.out.write_text(honest_table.text(matrix), encoding="utf-8")
    for profile in profiles:
        print(profile if isinstance(profile, Profile) else f"refused: {profile}")
    print(f"{options.out}: {matrix.seconds:.0f} s")
    odd = [plugin.title for plugin, found in plugins if plugin.is_bitwise and len(honest_table.digests(found)) > 1]
    return int(bool(odd) or any(one.is_bitwise and one.rejected for one in honest))


def compute(folder: Path, kinds: Sequence[str], seeds: int) -> None:
    """All processes: chains on the first configuration, then units on all of them, whole chunks of the bitwise classes
    on some, and the cheats on the last."""
    sdk = laid_out(folder / "sdk")
    starts = folder / "starts"
    run(CONFIGS[0], sdk, orders("chains", starts, starts, CONFIGS[0], max(seeds, CHEAT_SEEDS), kinds))
    exact = [kind for kind in kinds if KINDS[kind]["NUMERIC"] == "D1"]
    for place, config in enumerate(CONFIGS):
        say(f"{config.name}: {seeds} units of each of {len(kinds)} classes")
        run(config, sdk, orders("units", folder / f"units{place}", starts, config, seeds, kinds))
        run(config, sdk, orders("chains", folder / f"chains{place}", starts, config, CHUNKS, exact))
    say("the cheats")
    run(CONFIGS[-1], sdk, orders("cheats", folder / "cheats", starts, CONFIGS[-1], CHEAT_SEEDS, kinds))


def laid_out(sdk: Path) -> Path:
    """The guest's package under the name that programs import."""
    shutil.copytree(ROOT / "node" / "guest" / "work", sdk / "shoal_work", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(sdk / "shoal_work" / "face.py", sdk / "shoal_work" / "__init__.py")
    return sdk


def orders(task: str, out: Path, starts: Path, config: Config, seeds: int, kinds: Sequence[str]) -> Orders:
    """For one process."""
    return Orders(
        example=str(EXAMPLE), out=str(out), threads=config.threads, task=task, starts=str(starts), seeds=seeds,
        units=UNITS, kinds=list(kinds),
    )  # fmt: skip


def run(config: Config, sdk: Path, wanted: Orders) -> None:
    """One process, to its end. Raises CalledProcessError."""
    out = Path(wanted["out"])
    out.mkdir(exist_ok=True)
    said = out / f"{wanted['task']}.json"
    said.write_text(json.dumps(wanted), encoding="utf-8")
    script = ROOT / "benchmarks" / "honest_worker.py"
    subprocess.run([PYTHON, script, said], env=config.environment(sdk), cwd=out, check=True)


def honest_runs(folder: Path, kind: str, seeds: int) -> Honest:
    """Every pair of configurations, compared as claim and audit are."""
    found = Honest(kind, KINDS[kind]["NUMERIC"] == "D1", seeds * len(CONFIGS))
    for seed in range(seeds):
        start = state(folder / "starts", kind, seed, seed % UNITS)
        made = [unit(folder / f"units{place}", f"{kind}.{seed}") for place in range(len(CONFIGS))]
        for (at, (one, aux)), (_, (other, other_aux)) in itertools.combinations(enumerate(made), 2):
            errors = measured(start, (one, aux), (other, other_aux))
            found.pairs += 1
            found.equal += same(one, other)
            found.units.append(errors)
            if at == 0:
                found.first.append(errors[0])
            found.compared.append((start, one, other, aux, other_aux))
    if found.is_bitwise:
        ends = range(CHUNKS)
        chunks = [
            {tensors.encode(state(folder / f"chains{place}", kind, seed, UNITS)) for place in range(len(CONFIGS))}
            for seed in ends
        ]
        found.chunks = (sum(len(kept) == 1 for kept in chunks), len(chunks))
    return found


def calibrated(folder: Path, honest: Honest) -> Profile | str:
    """The profile of an fp32 class from its errors against the first configuration, or why there is none."""
    if honest.is_bitwise:
        return "bitwise"
    cheats = {
        name: min(one[0] for one in errors) for name, errors in cheat_errors(folder, honest.kind) if name not in GREY
    }
    try:
        key = ("training", KINDS[honest.kind]["OPTIMIZER"], "x86-fp32", "x86-fp32")
        return profile_of(honest.first, cheats, key, ABOUT)
    except Refused as refusal:
        return f"{refusal.code}: {refusal.detail}"


def cheat_runs(folder: Path, kind: str, profile: Profile | str) -> list[Cheat]:
    """What became of every cheat."""
    found = []
    for name, errors in cheat_errors(folder, kind):
        codes: set[str] = set()
        scores: list[int] = []
        for seed in range(CHEAT_SEEDS):
            start = state(folder / "starts", kind, seed, seed % UNITS)
            ours, our_aux = unit(folder / "cheats", f"{kind}.{seed}.{name}")
            theirs, their_aux = work_of(folder, kind, seed)
            if isinstance(profile, Profile):
                verdict = training.compare(start, ours, theirs, our_aux, their_aux, profile.tolerance)
                codes.add(verdict.code)
                scores.append(score(verdict.err, profile.tolerance))
            else:
                codes.add("equal" if same(ours, theirs) else "state_differs")
        found.append(Cheat(kind, name, errors, sorted(codes), scores))
    return found


@functools.cache
def cheat_errors(folder: Path, kind: str) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """(cheat, its errors of each seed)."""
    prefix = f"{kind}.0."
    names = sorted(path.name[len(prefix) : -len(".state")] for path in (folder / "cheats").glob(f"{prefix}*.state"))
    found = []
    for name in names:
        errors = []
        for seed in range(CHEAT_SEEDS):
            start = state(folder / "starts", kind, seed, seed % UNITS)
            errors.append(
                measured(start, unit(folder / "cheats", f"{kind}.{seed}.{name}"), work_of(folder, kind, seed))
            )
        found.append((name, errors))
    return found


def work_of(folder: Path, kind: str, seed: int) -> tuple[Tensors, Tensors]:
    """The honest unit of the first configuration. It has fewer seeds than the cheats only in short trials."""
    path = folder / "units0"
    if (path / f"{kind}.{seed}.state").exists():
        return unit(path, f"{kind}.{seed}")
    raise SystemExit(f"{CHEAT_SEEDS} seeds are needed: --runs {CHEAT_SEEDS * len(CONFIGS)} or more")


def measured(
    start: Tensors, claimed: tuple[Tensors, Tensors], replayed: tuple[Tensors, Tensors]
) -> tuple[float, float, float]:
    """(update and optimizer, first gradient, losses), all relative."""
    gradient = 0.0
    if training.GRADIENT in replayed[1]:
        gradient = training.relative(claimed[1][training.GRADIENT], replayed[1][training.GRADIENT])
    losses = training.loss_error(claimed[1][training.LOSSES], replayed[1][training.LOSSES])
    return training.unit_error(start, claimed[0], replayed[0])[0], gradient, losses


def judged(honest: Honest, tolerance: Tolerance | None) -> Honest:
    """Count the pairs that would have been rejected, or sent to a second auditor."""
    for start, one, other, aux, other_aux in honest.compared:
        if honest.is_bitwise:
            honest.rejected += not same(one, other)
        elif tolerance is not None:
            verdict = training.compare(start, one, other, aux, other_aux, tolerance)
            honest.scores.append(score(verdict.err, tolerance))
    honest.compared.clear()
    return honest


def plugged(plugin: Plugin, folder: Path) -> dict[str, list[str]]:
    """Configuration -> the digests that the plug-in's process printed there."""
    say(plugin.title)
    found = {}
    for config in CONFIGS:
        done = subprocess.run(
            [ROOT / plugin.python, "-c", plugin.line(ROOT, config.threads)],
            env=config.environment(folder / "sdk"), cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[config.name] = [str(digest) for digest in json.loads(done.stdout)]
    return found


def same(one: Tensors, other: Tensors) -> bool:
    """Whether the files that hold them are equal bytes."""
    return all(array.tobytes() == other[name].tobytes() for name, array in one.items())


def state(folder: Path, kind: str, seed: int, index: int) -> Tensors:
    """A state of `chains`."""
    return tensors.decode((folder / f"{kind}.{seed}.{index}.state").read_bytes())


def unit(folder: Path, name: str) -> tuple[Tensors, Tensors]:
    """(state, aux) after one unit."""
    read = [tensors.decode((folder / f"{name}.{end}").read_bytes()) for end in ("state", "aux")]
    return read[0], read[1]


def say(text: str) -> None:
    """What happens now."""
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
