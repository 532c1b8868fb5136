"""The plug is pulled: kill -9 of the host of a running job, and how long until the job is further elsewhere than saved.

    python -m benchmarks.bench_recovery --kills 50 --mode hot
    python -m benchmarks.bench_recovery --kills 50 --mode cold
    python -m benchmarks.bench_recovery --kills 5 --megabytes 500 --every 20 --mode hot

Hot: a standby waits at the first loop. Cold: the standby is killed at the same moment. Every kill is a SIGKILL of a
node process of a devnet; spans come from the nodes' own events, on one clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from random import Random
from typing import Final, get_args

from benchmarks import report
from benchmarks.network import Network, running
from benchmarks.recovery_rounds import SCRIPT, Load, Mode, Recovered, Rounds, moved
from benchmarks.recovery_watch import Watch
from benchmarks.report import FOLDER, Aim, Figure
from node.clock import Clock
from protocol.units import HOUR

TOTAL_AIM: Final = {"hot": 10.0, "cold": 40.0}
"""Seconds that 95 of 100 takeovers take at most."""

STALL_AIM: Final = 1.0
"""Percent of the run time at an interval of 20 s."""


def main(words: Sequence[str]) -> int:
    """Measure; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_recovery", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--mode", choices=get_args(Mode), default="hot")
    parser.add_argument("--megabytes", type=int, default=2)
    parser.add_argument("--every", type=int, default=2, help="seconds between snapshots")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    facts, load = report.machine(), Load(options.megabytes, options.every)
    rounds, others = measure(load, options.mode, options.kills, Random(options.seed))
    figures = [*tabled(rounds, load, options.mode, options.kills), *others]
    report.show(facts, figures)
    report.write(facts, figures, FOLDER / f"recovery-{options.mode}-{options.megabytes}-{options.every}.json")
    return 0 if len(rounds) == options.kills else 1


def measure(load: Load, mode: Mode, kills: int, random: Random) -> tuple[list[Recovered], list[Figure]]:
    """The kills that were survived, and figures of the whole run."""
    rounds: list[Recovered] = []
    with running(_say) as network:
        shutil.copy(SCRIPT, network.folder / SCRIPT.name)
        watch = Watch(network.devnet, [node.name for node in network.state.nodes])
        try:
            job = network.submit_confirmed("endless", load.job())
            began = Clock().now()
            one = Rounds(network, watch, job, random)
            for number in range(kills):
                found = one.kill(mode)
                if found is None:
                    _say(f"kill {number + 1}: not gone on in time")
                    continue
                rounds.append(found)
                _say(f"kill {number + 1} of {kills}: {_line(found)}")
            hours = (Clock().now() - began) / HOUR
            return rounds, [_per_snapshot(network, watch), *alarms(watch, kills, hours)]
        finally:
            watch.close()


def alarms(watch: Watch, kills: int, hours: float) -> list[Figure]:
    """What the detectors said of hosts that lived. Three of them watch the one lease at any time."""
    dead = {told.fields["epoch"] for told in watch.find("liveness", lambda told: told.says(state="dead"))}
    doubts = len(watch.find("liveness", lambda told: told.says(state="alive")))
    fenced = (float(max(0, len(dead) - kills)) / hours,)
    return [
        Figure("living host fenced", "per hour watched", fenced, Aim("most", 0), f"{hours:.2f} h"),
        Figure("living host suspected for a moment", "per watcher-hour", (doubts / (3 * hours),)),
    ]


def tabled(rounds: Sequence[Recovered], load: Load, mode: Mode, kills: int) -> list[Figure]:
    """Rows of the table."""
    if not rounds:
        return []
    state = f"{load.megabytes} MB, every {load.every_s} s"
    rows = [
        Figure("survived", "of kills", (float(len(rounds)),), Aim("least", kills), f"{kills} kills, {mode}, {state}")
    ]
    for name in ("detect", "schedule", "boot", "attach", "reload", "total"):
        rows += _both(name, "s", [float(getattr(one, name)) for one in rounds])
    rows.append(Figure(f"total p95, {mode}", "s", (quantile([one.total for one in rounds], 0.95),),
                       Aim("most", TOTAL_AIM[mode])))  # fmt: skip
    rows += _both("work lost", "s", [one.seconds_lost for one in rounds])
    rows += _both("work lost", "steps", [float(one.steps_lost) for one in rounds])
    aim = Aim("most", STALL_AIM) if load.every_s >= 20 else None
    rows.append(Figure("stall", "% of run time", tuple(100 * one.stall for one in rounds), aim))
    rows.append(Figure("fetched by the new worker", "MB", tuple(one.bytes_fetched / 1e6 for one in rounds)))
    return rows


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many are not above.

    >>> quantile([3, 1, 2, 4], 0.5), quantile([3, 1, 2, 4], 0.95)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1_000) * len(ordered) // 1_000) - 1)]


def _both(name: str, unit: str, values: list[float]) -> list[Figure]:
    p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
    return [Figure(name, unit, tuple(values), None, f"p50 {report.number(p50)}, p95 {report.number(p95)}")]


def _per_snapshot(network: Network, watch: Watch) -> Figure:
    """Over the running processes only: what a killed one had sent is gone with it, so are its snapshots here."""
    sent = {node.name: moved(network, node.name)["sent"] for node in network.state.nodes}
    total = sum(sent.values())
    count = len(watch.find("snapshot", lambda told: told.node == "steward"))
    return Figure("sent per durable snapshot, all nodes", "MB", (total / count / 1e6 if count else 0.0,))


def _line(one: Recovered) -> str:
    return json.dumps({name: round(float(getattr(one, name)), 3) for name in one.__slots__})


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
