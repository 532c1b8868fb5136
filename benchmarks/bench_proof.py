"""What proof costs, class by class: beside the work, at the auditor, in bytes, and until the verdict.

Times are CPU time, and everything but a latency is a ratio of two that were taken in one run. The table is that of
docs/verification.md. The start of an interpreter counts for nobody: it does not grow with the work.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import proof_cases, proof_modules
from benchmarks.network import Network
from benchmarks.proof_cases import ROOT, Cost
from benchmarks.report import Aim, Figure
from protocol import genesis, wire
from protocol.block import verify_receipts
from protocol.messages import Receipts
from protocol.operations import Claim, Verdict
from protocol.units import SECOND, PeerId
from shoal import receipts

OVERHEAD: Final = Aim("most", 2.0)
"""Per cent of the work, hashing included; Grid-FP64 is outside of it."""

AUDITS: Final = {
    "WebAssembly": (4, 64, None),
    "training, fp32": (47, 470, Aim("most", 10.0)),
    "training, Grid-FP64": (47, 470, Aim("most", 10.0)),
    "inference, floats": (4, 64, Aim("most", 1.0)),
    "inference, integers": (4, 64, None),
    "rendering, whole tiles": (4, 256, Aim("most", 2.0)),
    "rendering, parts of tiles": (4, 64, Aim("most", 2.0)),
    "scientific, streams": (4, 64, None),
}
"""Units that one audit replays, of how many, and the aim for its share of the chunk, per cent. 47 are three that are no
chance and 44 that are: who cheats in a tenth of all units escapes them with 0.9^44, once in a hundred times."""

RUNS: Final = 2
CERTIFICATES: Final = ("sat", "assignment")

JOBS: Final = {
    "in units": (
        "wasm: cluster.wasm\nfuel: 600000000\n"
        "proof: {class: deterministic, units: 4, samples: 4}\nchunks: 4\naudit: 1\nestimate: 5s\n"
    ),
    "whole": (
        "runtime: python\ncommands: ['echo $SHOAL_CHUNK > $SHOAL_OUT/n']\nchunks: 4\naudit: 1\n"
        "proof: {class: general}\nestimate: 5s\n"
    ),
    "certificate": (
        "runtime: python\ncommands: ['echo 42 > $SHOAL_OUT/n']\nchunks: 4\nestimate: 5s\n"
        "proof: {class: certificate, check: 'grep -qx 42 $SHOAL_IN/result/n'}\n"
    ),
}
"""Small jobs of every way to be audited: what is left is the waiting."""

_NOBODY: Final = PeerId(bytes(32))


def measure(say: Callable[[str], None], toploc: str = "") -> list[Figure]:
    """Everything that needs no network. `toploc`: a Python that has the package of that name."""
    figures = []
    for title, work in _works().items():
        say(f"proof, {title}")
        figures += _figures(title, [work() for _ in range(RUNS)])
    say("proof, the rules for modules")
    for name, ratio in proof_modules.rules().items():
        figures.append(Figure(f"WebAssembly, {name}: under the sandbox's rules", "times plain", (ratio,)))
    for name in CERTIFICATES:
        say(f"proof, certificate {name}")
        figures.append(Figure(f"certificate, {name}: a check", "% of the work", _certificate(name)))
    return figures + (beside_toploc(toploc) if toploc else [])


def latency(network: Network, say: Callable[[str], None]) -> list[Figure]:
    """Seconds from the block of a claim to the block of its verdict, for each way to be audited."""
    shutil.copy(ROOT / "examples" / "wasm-units" / "cluster.wasm", network.folder)
    figures = []
    for name, text in JOBS.items():
        say(f"proof, from claim to verdict, {name}")
        job = network.submit_confirmed(f"proof-{name.replace(' ', '-')}", text)
        network.settled(job)
        figures.append(Figure(f"from claim to verdict, {name}", "s", _waits(network, job)))
    return figures


def beside_toploc(python: str) -> list[Figure]:
    """The package's figures and ours for 32 tokens of 4096 activations, and which changes either accepts."""
    script = Path(__file__).with_name("toploc_peer.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, str(script)], env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    figures = [
        Figure("fingerprint of 32 tokens", "bytes", (found["own_bytes"],), note=f"toploc {found['bytes']}"),
        Figure("  making it", "ms", (1e3 * found["own_make"],), note=f"toploc {1e3 * found['make']:.2f}"),
        Figure("  checking it", "ms", (1e3 * found["own_check"],), note=f"toploc {1e3 * found['check']:.2f}"),
    ]
    for case, (theirs, *own) in found["accepted"].items():
        note = f"as fp32 {own[0]}, as bf16 {own[1]}; toploc {theirs}"
        figures.append(Figure(f"  accepts: {case}", "of 2", (float(sum(own)),), note=note))
    return figures


def _works() -> dict[str, Callable[[], Cost]]:
    def once(call: Callable[[Path], Cost]) -> Callable[[], Cost]:
        def work() -> Cost:
            with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
                return call(Path(folder))

        return work

    def of(case: proof_cases.Case) -> Callable[[Path], Cost]:
        return lambda folder: proof_cases.measure(case, folder)

    cases = {case.title: once(of(case)) for case in proof_cases.CASES if case.python.exists()}
    return {"WebAssembly": once(proof_modules.measure), **cases}


def _figures(title: str, costs: list[Cost]) -> list[Figure]:
    samples, units, aim = AUDITS[title]
    overhead = None if title == "training, Grid-FP64" else OVERHEAD
    again = [cost.again for cost in costs]
    figures = [
        Figure(f"{title}: proof beside the work", "%", tuple(100 * cost.overhead for cost in costs), overhead),
        Figure("  of units of", "s", tuple(cost.unit_s for cost in costs)),
        Figure("  at most 2 % from units of", "s", tuple(50 * cost.overhead * cost.unit_s for cost in costs)),
        Figure("  a unit at the auditor", "% of the unit", tuple(100 * one for one in again)),
        Figure(f"  an audit of {samples} of {units} units", "% of the chunk",
               tuple(100 * one * samples / units for one in again), aim),
        Figure("  kept for a unit", "bytes", (costs[0].kept,)),
        Figure("  sent for an audited unit", "bytes", (costs[0].opened + costs[0].sent,),
               note=f"{costs[0].opened:.0f} of them leaf and path"),
    ]  # fmt: skip
    if aim is not None:
        least = tuple(samples * 100 * one / aim.value for one in again)
        figures.append(Figure(f"  aim met by {samples} of", "units", least))
    return figures


def _certificate(name: str) -> tuple[float, ...]:
    """CPU time of the check in per cent of the work's, for some chunks."""
    shares = []
    start = min(_child([sys.executable, "-c", "pass"], ROOT, {}) for _ in range(RUNS))
    for chunk in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="shoal-bench-") as folder:
            inside, out = Path(folder) / "in", Path(folder) / "in" / "result"
            shutil.copytree(ROOT / "examples" / "certificate" / name, inside)
            out.mkdir()
            env = {"SHOAL_IN": str(inside), "SHOAL_OUT": str(out), "SHOAL_CHUNK": str(chunk)}
            work, check = (_child([sys.executable, program], inside, env) for program in ("solve.py", "check.py"))
            shares.append(100 * (check - start) / (work - start))
    return tuple(shares)


def _child(command: list[str], folder: Path, env: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _waits(network: Network, job: str) -> tuple[float, ...]:
    """By the ledger's own clock, from the job's receipt."""
    known = genesis.from_json(Path(network.state.genesis).read_bytes())
    claimed: dict[tuple[int, int], int] = {}
    waits = []
    for raw in receipts.decode(network.client.receipt(job)).receipts:
        found = wire.decode(raw, wire.decoder(Receipts), _NOBODY, size_max=receipts.RECEIPT_BYTES_MAX)
        for operation, _, _ in verify_receipts(found, known.validator_set, _NOBODY):
            if isinstance(operation, Claim):
                claimed.setdefault((operation.chunk, operation.epoch), found.header.time)
            elif isinstance(operation, Verdict):
                waits.append((found.header.time - claimed[operation.chunk, operation.epoch]) / SECOND)
    return tuple(waits)
