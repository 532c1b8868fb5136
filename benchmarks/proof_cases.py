"""What the proof of one class costs, by an example cut to seconds: its provider's time, its auditor's, and bytes.

Everything is CPU time of one process, and a ratio is of two from the same run, so that a busy machine changes little.
The start of an interpreter counts for nobody: it does not grow with the work.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from node.blobs import BlobStore
from node.proving.program import FACE, PACKAGE
from node.proving.taking import take_results, take_trace
from protocol import wire
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import Kind, Tolerance, Trace
from protocol.trace import TRACE_BYTES_MAX, TraceTree, decode_trace
from protocol.units import GIB, PeerId
from shoal.jobfile import load
from verifier import comparing
from verifier.tensors import decode

ROOT: Final = Path(__file__).parents[1]
TORCH: Final = ROOT / ".venv-torch" / "bin" / "python"
STOPWATCH: Final = Path(__file__).with_name("unit_stopwatch.py")
NOBODY: Final = PeerId(bytes(32))
SEED: Final = "07" * 32


@dataclass(frozen=True, slots=True)
class Case:
    """An example, or a change of one."""

    title: str
    kind: Kind
    example: str
    program: str
    units: int
    env: tuple[tuple[str, str], ...] = ()
    python: Path = Path(sys.executable)
    changes: tuple[tuple[str, str], ...] = ()
    """Words of the program, and what stands there instead."""
    behind: int = 0
    """Units in which nothing is computed, only told."""
    is_part: bool = False
    """Whether an auditor computes the part of a unit that the challenge chooses."""
    tolerance: Tolerance | None = None
    """Of a D3 job: the judge compares numbers, and its time counts as the auditor's."""


class Seconds(Struct, frozen=True):
    """Of one process, as `unit_stopwatch.py` has them."""

    work: float
    inside: float
    total: float


class Cost(Struct, frozen=True):
    """What was measured."""

    unit_s: float
    """CPU time of one unit without any proof."""
    overhead: float
    """What the provider's proof takes beside its work, as a share of it: states written and read, hashes, effects."""
    again: float
    """What an auditor takes for one unit, as a share of that unit. With the judge's comparison where there is one."""
    kept: float
    """Bytes that a provider keeps for each unit until the verdict is final."""
    opened: float
    """Bytes that it sends for each audited unit besides the state: a leaf and its path."""
    sent: float
    """Bytes of the state that an auditor fetches for it."""


def measure(case: Case, folder: Path) -> Cost:
    """Run it once with a trace, replay all of its units but the first, and take both as a node does."""
    inside = lay_out(case, folder / "in")
    out, replayed = folder / "out", folder / "replayed"
    ran = _run(case, inside, out, {"SHOAL_PROOF": "run"})
    trace, hashing = trio.run(taken, case.units, out, BlobStore(folder / "blobs", 4 * GIB))
    opened(out, inside, case.units)
    indices = ",".join(map(str, range(1, case.units)))
    words = {"SHOAL_PROOF": "replay", "SHOAL_REPLAY": indices, "SHOAL_CHALLENGE": "05" * 32}
    audited = _run(case, inside, replayed, words)
    sealing = trio.run(sealed, case.units, replayed, BlobStore(folder / "results", 4 * GIB))
    judging = _compared(case, out / ".shoal", replayed / ".shoal") if case.tolerance else 0.0
    plain = ran.work - ran.inside
    unit = plain / (case.units - case.behind)
    return cost(plain, unit, ran.total - plain + hashing, audited.total + sealing + judging, trace)


def cost(plain: float, unit: float, proof: float, audit: float, trace: Trace) -> Cost:
    """From CPU seconds of: all units without a proof, one of them, the proof of all, an audit of all but the first."""
    indices = trace.units - 1
    return Cost(
        unit,
        proof / plain,
        audit / indices / unit,
        sum(leaf.state_bytes + leaf.aux_bytes for leaf in trace.leaves) / trace.units,
        float(len(wire.encode(TraceTree(trace).open(1)))),
        sum(leaf.state_bytes for leaf in trace.leaves[1:-1]) / indices,
    )


def opened(out: Path, inside: Path, units: int) -> None:
    """Every state but the first, as a replay finds it."""
    (inside / ".shoal" / "open").mkdir(parents=True)
    for index in range(1, units):
        shutil.copy(out / ".shoal" / f"{index}.state", inside / ".shoal" / "open")


async def taken(units: int, out: Path, store: BlobStore) -> tuple[Trace, float]:
    """The trace of a run, and the CPU time of hashing and storing all of it."""
    began = time.process_time()
    found = await take_trace(out, units, store, GIB, [])
    took = time.process_time() - began
    return decode_trace(store.read(found.digest, TRACE_BYTES_MAX), NOBODY), took


async def sealed(units: int, out: Path, store: BlobStore) -> float:
    """CPU time of the same for a replay of all units but the first."""
    began = time.process_time()
    await take_results(out, range(1, units), ZERO_DIGEST, store, GIB, [])
    return time.process_time() - began


def lay_out(case: Case, inside: Path) -> Path:
    """The example's files and the guest's package, as a node lays them."""
    shutil.copytree(ROOT / "examples" / case.example, inside)
    program = inside / case.program
    text = program.read_text(encoding="utf-8")
    for old, new in case.changes:
        if old not in text:
            raise SystemExit(f"{program}: {old!r} is not there")
        text = text.replace(old, new)
    program.write_text(text, encoding="utf-8")
    package = inside / ".shoal" / PACKAGE
    shutil.copytree(ROOT / "node" / "guest" / "work", package)
    (package / FACE).replace(package / "__init__.py")
    return inside


def _run(case: Case, inside: Path, out: Path, words: dict[str, str]) -> Seconds:
    out.mkdir()
    answer = out.with_suffix(".json")
    env = dict(load(ROOT / "examples" / case.example / "job.yml", {}).spec.env)
    env |= {"SHOAL_IN": str(inside), "SHOAL_OUT": str(out), "PYTHONPATH": str(inside / ".shoal")}
    env |= {"SHOAL_UNITS": str(case.units), "SHOAL_SEED": SEED, "OMP_NUM_THREADS": "1", **dict(case.env), **words}
    if case.is_part:
        env["PART"] = "1"
    command = [str(case.python), str(STOPWATCH), case.program, str(answer)]
    done = subprocess.run(command, cwd=inside, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case.title}: {done.stderr}")
    found = json.loads(answer.read_text(encoding="ascii"))
    return Seconds(found["work"], found["inside"], found["total"])


def _compared(case: Case, claimed: Path, replayed: Path) -> float:
    """CPU time of the judge's comparing child, without its start."""
    assert case.tolerance is not None
    began = time.process_time()
    for index in range(1, case.units):
        after = replayed / f"{index}.state"
        comparing.compare(
            case.kind,
            decode((claimed / f"{index}.state").read_bytes()),
            decode((claimed / f"{index + 1}.state").read_bytes()),
            decode(after.read_bytes()) if after.exists() else None,
            decode((claimed / f"{index}.aux").read_bytes()),
            decode((replayed / f"{index}.aux").read_bytes()),
            case.tolerance,
        )
    return time.process_time() - began


FLOATS: Final = (("inference, int8_model", "inference, float_model"), ("int8_model.load(", "float_model.load("))
BATCHES: Final = (("together=3", "together=6"),)
LONG: Final = (("together=3", "together=24"), ("[:-1]\n", "[:-1] * 4\n"))
"""The floats are five times as fast as the integers."""
PROSE: Final = Tolerance(2_000_000_000, 11_000_000_000, "fp32/prose")
ADAMW: Final = Tolerance(70_290_720, 1_678_102_971, "training/adamw")
PICTURE: Final = (("WIDTH", "64"), ("HEIGHT", "64"), ("SAMPLES", "512"))

CASES: Final = (
    Case("training, fp32", "training", "training-units", "train.py", 3, (("STEPS", "50"), ("NUMERIC", "D3")), TORCH,
         tolerance=ADAMW),
    Case("training, Grid-FP64", "training", "training-units", "train.py", 3, (("STEPS", "50"),), TORCH),
    Case("inference, floats", "inference", "inference-units", "answer.py", 3, changes=FLOATS + LONG, behind=1,
         tolerance=PROSE),
    Case("inference, integers", "inference", "inference-units", "answer.py", 3, changes=BATCHES, behind=1),
    Case("rendering, whole tiles", "rendering", "render-units", "render.py", 4, PICTURE),
    Case("rendering, parts of tiles", "rendering", "render-units", "render.py", 4, PICTURE, is_part=True),
    Case("scientific, streams", "scientific", "montecarlo", "pi.py", 3, (("DARTS", "10000000"),)),
)  # fmt: skip
"""Units of half a second, as short as anybody would make them: a proof's own costs are per unit."""
