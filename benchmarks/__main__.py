"""python -m benchmarks [ledger transport mux bulk gossip crowd storage proof sim idle jobs kill gateway]

A table, and all values in build/bench.json. Without names all are measured, about half an hour. Figures are
wall time on a machine that may do other things: medians, with least and most beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import (
    bench_bulk,
    bench_crowd,
    bench_gateway,
    bench_gossip,
    bench_idle,
    bench_jobs,
    bench_ledger,
    bench_mux,
    bench_proof,
    bench_sim,
    bench_storage,
    report,
)
from benchmarks.network import running
from benchmarks.report import FOLDER, Aim, Figure
from protocol.ledger import check

NAMES: Final = (
    "ledger", "transport", "mux", "bulk", "gossip", "crowd", "storage", "proof", "sim", "idle", "jobs", "kill",
    "gateway",
)  # fmt: skip
LEDGER_CHUNKS: Final = 1_000
LEDGER_RUNS: Final = 3
TRANSPORT_IDLE_S: Final = 5
MUX_RUNS: Final = 3


def main(words: Sequence[str]) -> int:
    """Measure what was named; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; all without")
    parser.add_argument("--profile", action="store_true", help="flame graphs of the no-op chunks, with py-spy")
    parser.add_argument("--iroh", default=os.environ.get(bench_bulk.IROH, ""), help="a Python that has iroh 1.2.0")
    parser.add_argument("--toploc", default="", help="a Python that has toploc 0.1.6, built beside its torch")
    options = parser.parse_args(words)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names = frozenset(options.names or NAMES)
    facts = report.machine()
    figures: list[Figure] = []
    if "ledger" in names:
        say("the ledger")
        figures += ledger()
    if "transport" in names:
        say("the transport")
        figures += transport()
    figures += overlay(names, options.iroh)
    if "storage" in names:
        figures += bench_storage.measure(say)
    if "proof" in names:
        figures += bench_proof.measure(say, options.toploc)
    if "sim" in names:
        say("the simulator; a thousand peers for an hour take minutes")
        figures += bench_sim.measure(is_long=True)
    if names & {"idle", "jobs", "kill", "gateway", "proof"}:
        figures += devnet(names, options.profile)
    report.write(facts, figures, FOLDER / "bench.json")
    report.show(facts, figures)
    say(f"all values: {FOLDER / 'bench.json'}")
    return 0


def overlay(names: frozenset[str], iroh: str) -> list[Figure]:
    """The network's own parts, beside what others have: muxer, data plane, gossip, and a crowd of whole peers."""
    figures: list[Figure] = []
    if "mux" in names:
        figures += bench_mux.measure(MUX_RUNS, bench_mux.KINDS, say)
    if "bulk" in names:
        figures += bench_bulk.measure(say, iroh=iroh)
    if "gossip" in names:
        figures += bench_gossip.measure(bench_gossip.usual(), say)
    if "crowd" in names:
        figures += bench_crowd.measure(say)
    return figures


def devnet(names: frozenset[str], profiles: bool) -> list[Figure]:
    """What is measured on one running network, the quiet things first."""
    figures: list[Figure] = []
    with running(say) as network:
        if "idle" in names:
            say(f"an idle network, {bench_idle.SPAN_S:.0f} s")
            figures += bench_idle.measure(network)
        if "jobs" in names:
            say("the first line of a log")
            figures += bench_jobs.first_line(network)
            say("no-op chunks")
            figures += bench_jobs.noop_chunks(network, say, profiles)
        if "gateway" in names:
            say("requests to the gateway")
            figures += bench_gateway.measure(network)
        if "proof" in names:
            figures += bench_proof.latency(network, say)
        if "kill" in names:
            say("providers killed at work")
            figures += bench_jobs.killed_provider(network)
    return figures


def ledger() -> list[Figure]:
    """The pure machine, and the durable one next to the cost of its signatures alone, in the same run."""
    signed = bench_ledger.workload(LEDGER_CHUNKS)
    operations = [check(item, bench_ledger.NETWORK, bench_ledger.STEWARD.peer, verified=True) for item in signed]
    pure = tuple(bench_ledger.pure(operations) for _ in range(LEDGER_RUNS))
    rooted = tuple(bench_ledger.with_root(operations) for _ in range(LEDGER_RUNS))
    durable, ratios = [], []
    for _ in range(LEDGER_RUNS):
        floor = bench_ledger.verified(signed)
        done = bench_ledger.durable(signed)
        durable.append(done["ops_per_s"])
        ratios.append(done["seconds"] / floor)
    return [
        Figure("ledger, pure", "operations/s/core", pure, Aim("least", 100_000.0)),
        Figure("ledger, in blocks with roots", "operations/s/core", rooted),
        Figure("ledger, signed and durable", "operations/s", tuple(durable), Aim("least", 3_000.0), "fsync each block"),
        Figure("  time next to verifying the signatures alone", "ratio", tuple(ratios)),
    ]


def transport() -> list[Figure]:
    """Two processes and the network library between them."""
    script = Path(bench_ledger.__file__).with_name("bench_transport.py")
    command = [sys.executable, str(script), "--idle", str(TRANSPORT_IDLE_S)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        found |= {name: value for name, value in json.loads(line).items() if isinstance(value, (int, float))}
    rows = {"rtt_p50_ms": "ms", "rtt_p99_ms": "ms", "messages_per_s": "messages/s", "blob_mb_per_s": "MB/s"}
    return [Figure(f"transport, {name}", unit, (found[name],)) for name, unit in rows.items()]


def say(text: str) -> None:
    """What happens now; the table alone goes to standard output."""
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
