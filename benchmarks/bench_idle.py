"""What a network costs that has nothing to do: CPU share and memory of every process."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.network import Network, cpu_seconds, role
from benchmarks.report import Aim, Figure

SETTLE_S: Final = 5.0
"""After the start, until discovery and first audits of the peer list are over."""

SPAN_S: Final = 20.0
"""Long enough for several rounds of every timer (the slowest of a node is 10 s)."""


def measure(network: Network) -> list[Figure]:
    """CPU percent of one core, and resident memory, per role."""
    time.sleep(SETTLE_S)
    processes = network.processes()
    before, began = cpu_seconds(processes), time.perf_counter()
    time.sleep(SPAN_S)
    took, after = time.perf_counter() - began, cpu_seconds(processes)
    figures = []
    for kind in ("steward", "validator", "provider", "gateway"):
        names = [name for name in processes if role(name) == kind]
        shares = tuple(100 * (after[name] - before[name]) / took for name in names)
        memory = tuple(processes[name].memory_info().rss / 1e6 for name in names)
        figures.append(Figure(f"idle cpu, {kind}", "% of a core", shares, Aim("most", 2.0), f"over {took:.0f} s"))
        figures.append(Figure(f"idle memory, {kind}", "MB resident", memory, Aim("most", 150.0)))
    return figures
