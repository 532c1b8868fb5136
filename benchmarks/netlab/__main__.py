"""python -m benchmarks.netlab [punch network faults] [--only FAULT]: the NAT laboratory's tables, and build/netlab.json.

punch: raw sockets, every pair of routers. network: ten real nodes, every pair, how and how soon, and two jobs.
faults: a job under each fault. Without names all, about eight minutes. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final

import msgspec
import trio

from benchmarks import report
from benchmarks.netlab import pairs, trials
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.punch import punch_tcp, punch_udp
from benchmarks.netlab.routers import KINDS, Kind
from benchmarks.netlab.village import Village
from node.clock import Clock
from protocol.errors import ShoalError
from protocol.units import SECOND

NAMES: Final = ("punch", "network", "faults")
JOB_S: Final = 240.0
QUIET_S: Final = 20.0
"""A network whose paths did not change for this long will not change them soon."""

SETTLE_S: Final = 90.0
Rows = list[dict[str, object]]


def main(words: Sequence[str]) -> int:
    """Measure what was named; the exit status: 1 when a job did not complete."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.netlab", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; all without")
    parser.add_argument("--only", action="append", choices=trials.FAULTS, help="these faults alone")
    options = parser.parse_args(words)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    found: dict[str, object] = {"machine": msgspec.to_builtins(report.machine())}
    good = True
    if "punch" in (options.names or NAMES):
        found["punch"] = trio.run(punches)
    if "network" in (options.names or NAMES):
        found["network"] = network()
    if "faults" in (options.names or NAMES):
        found["faults"], good = struck(options.only or list(trials.FAULTS))
    report.FOLDER.mkdir(exist_ok=True)
    (report.FOLDER / "netlab.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    say(f"all values: {report.FOLDER / 'netlab.json'}")
    return 0 if good else 1


async def punches() -> Rows:
    """Every pair of kinds, all at once, by raw sockets."""
    say("raw sockets, every pair of routers")
    took: dict[tuple[Kind, Kind], tuple[float | None, float | None]] = {}
    with Laboratory() as lab:
        meeting = lab.house("meeting", "public").host
        sides = {kind: [lab.house(f"{kind}-{side}", kind).host for side in "ab"] for kind in KINDS}

        async def both(one: Kind, other: Kind, port: int) -> None:
            a, b = sides[one][0], sides[other][1]
            took[one, other] = (await punch_tcp(a, b, meeting, port), await punch_udp(a, b, meeting))

        async with trio.open_nursery() as nursery:
            for number, (one, other) in enumerate(combinations_with_replacement(KINDS, 2)):
                nursery.start_soon(both, one, other, 5_000 + number)
    print("| |" + "".join(f" {kind} |" for kind in KINDS) + "\n|---|" + "---|" * len(KINDS))
    for row, one in enumerate(KINDS):
        fields = ["" if column < row else _punched(*took[one, KINDS[column]]) for column in range(len(KINDS))]
        print(f"| **{one}** |" + "".join(f" {field} |" for field in fields))
    return [{"pair": pair, "tcp_ms": tcp, "udp_ms": udp} for pair, (tcp, udp) in sorted(took.items())]


def _punched(tcp: float | None, udp: float | None) -> str:
    return " ".join(name for name, took in (("TCP", tcp), ("UDP", udp)) if took is not None) or "–"


def network() -> dict[str, object]:
    """Ten nodes, one behind each kind of router, two public."""
    say("ten nodes, one behind each kind of router")
    clock = Clock()
    jobs: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shoal-lab-") as folder, Laboratory() as lab:
        village = Village(lab, Path(folder) / "net", say)
        for kind in KINDS:
            if kind != "public":
                village.settle(lab.house(kind, kind).host)
        try:
            with pairs.Watch(village) as watch:
                village.up()
                until = clock.now() + int(SETTLE_S * SECOND)
                while clock.now() < until and not watch.is_settled(QUIET_S):
                    trio.run(trio.sleep, 1.0)
                for job in ("script", "render"):
                    began = clock.now()
                    village.settled(village.submit(trials.JOB.parents[1] / job / "job.yml"), JOB_S)
                    jobs[job] = (clock.now() - began) / SECOND
                    say(f"{job} settled after {jobs[job]:.1f} s")
        finally:
            village.down()
    print(pairs.matrix(watch.pairs, village.names))
    rows = [{"pair": pair, **_plain(reached)} for pair, reached in sorted(watch.pairs.items())]
    return {"pairs": rows, "jobs_s": jobs}


def _plain(reached: pairs.Reached) -> dict[str, object]:
    return dict(msgspec.to_builtins(reached))


def struck(names: Sequence[str]) -> tuple[Rows, bool]:
    """A job under each fault, and whether all completed."""
    say("a job under each fault")
    rows: Rows = []
    with tempfile.TemporaryDirectory(prefix="shoal-lab-") as folder, Laboratory() as lab:
        village = trials.settle(lab, Path(folder) / "net", say)
        print("| fault | job, s | lost attempts | delivered by the struck | whole again, s |\n|---|---|---|---|---|")
        try:
            for name in names:
                try:
                    one = trials.attempt(village, name)
                except ShoalError as error:
                    print(f"| {name} | {error.detail} | | | |", flush=True)
                    rows.append({"fault": name, "error": error.detail})
                    continue
                rows.append(dict(msgspec.to_builtins(one)))
                figures = f"{one.seconds:.1f} | {one.repeated} | {one.delivered} | {one.healed_s:.1f}"
                print(f"| {name} | {figures} |", flush=True)
        finally:
            village.down()
    return rows, not any("error" in row for row in rows)


def say(text: str) -> None:
    """What happens now; tables alone go to standard output."""
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
