"""python -m benchmarks.netlab [punch network faults] [--only FAULT] [--publish]: the tables, and build/netlab.json.

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
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.units import SECOND
from shoal.processes import until

NAMES: Final = ("punch", "network", "faults")
DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "network.md"
QUIET_S: Final = 20.0
"""A network whose paths did not change for this long will not change them soon."""

SETTLE_S: Final = 90.0
Rows = list[dict[str, object]]


def main(words: Sequence[str]) -> int:
    """Measure what was named; the exit status: 1 when a job did not complete."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.netlab", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(NAMES)}; all without")
    parser.add_argument("--only", action="append", choices=trials.FAULTS, help="these faults alone")
    parser.add_argument("--publish", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    options = parser.parse_args(words)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    found: dict[str, object] = {"machine": msgspec.to_builtins(report.machine())}
    good = True
    for name in options.names or NAMES:
        if name == "punch":
            table, found[name] = trio.run(punches)
        elif name == "network":
            table, found[name] = network()
        else:
            table, rows = struck(options.only or list(trials.FAULTS))
            found[name], good = rows, not any("error" in row for row in rows)
        print(table)
        if options.publish:
            publish(DOCUMENT, name, table)
    report.FOLDER.mkdir(exist_ok=True)
    (report.FOLDER / "netlab.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    say(f"all values: {report.FOLDER / 'netlab.json'}")
    return 0 if good else 1


def publish(document: Path, name: str, table: str) -> None:
    """Put a table between its two marks in a document."""
    before, mark, rest = document.read_text(encoding="utf-8").partition(f"<!-- netlab {name} -->\n")
    _, end, after = rest.partition(f"<!-- end {name} -->\n")
    if not mark or not end:
        raise Refused(f"{document} has no marks for {name}", code="no_marks")
    document.write_text(f"{before}{mark}\n{table}\n\n{end}{after}", encoding="utf-8")


async def punches() -> tuple[str, Rows]:
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
    lines = ["| |" + "".join(f" {kind} |" for kind in KINDS), "|---|" + "---|" * len(KINDS)]
    for row, one in enumerate(KINDS):
        fields = ["" if column < row else _punched(*took[one, KINDS[column]]) for column in range(len(KINDS))]
        lines.append(f"| **{one}** |" + "".join(f" {field} |" for field in fields))
    rows: Rows = [{"pair": pair, "tcp_ms": tcp, "udp_ms": udp} for pair, (tcp, udp) in sorted(took.items())]
    return "\n".join(lines), rows


def _punched(tcp: float | None, udp: float | None) -> str:
    return " ".join(name for name, took in (("TCP", tcp), ("UDP", udp)) if took is not None) or "–"


def network() -> tuple[str, dict[str, object]]:
    """Ten nodes, one behind each kind of router, two public."""
    say("ten nodes, one behind each kind of router")
    jobs: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shoal-lab-") as folder, Laboratory() as lab:
        village = Village(lab, Path(folder) / "net", say)
        for kind in KINDS:
            if kind != "public":
                village.settle(lab.house(kind, kind).host)
        try:
            with pairs.Watch(village) as watch:
                village.up()
                _quiet(watch)
                for name in ("script", "render"):
                    jobs[name] = _seconds(village, name)
                    say(f"{name} settled after {jobs[name]:.1f} s")
        finally:
            village.down()
    rows = [{"pair": pair, **msgspec.to_builtins(reached)} for pair, reached in sorted(watch.pairs.items())]
    text = f"{pairs.matrix(watch.pairs, village.names)}\n\nBesides, "
    text += ", ".join(f"`examples/{name}` settled after {took:.1f} s" for name, took in jobs.items()) + "."
    return text, {"pairs": rows, "jobs_s": jobs}


def _quiet(watch: pairs.Watch) -> None:
    """Wait until paths change no more."""
    try:
        until("paths change no more", lambda: watch.is_settled(QUIET_S) or None, [], SETTLE_S)
    except Unavailable as error:
        say(error.detail)


def _seconds(village: Village, name: str) -> float:
    """How long an example's job takes."""
    clock = Clock()
    began = clock.now()
    village.settled(village.submit(trials.JOB.parents[1] / name / "job.yml"), trials.JOB_S)
    return (clock.now() - began) / SECOND


def struck(names: Sequence[str]) -> tuple[str, Rows]:
    """A job under each fault."""
    say("a job under each fault")
    rows: Rows = []
    lines = [
        "| fault | job, s | attempts lost | chunks by the struck | whole again, s |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="shoal-lab-") as folder, Laboratory() as lab:
        village = trials.settle(lab, Path(folder) / "net", say)
        try:
            for name in names:
                try:
                    one = trials.attempt(village, name)
                except ShoalError as error:
                    lines.append(f"| {name} | {error.detail} | | | |")
                    rows.append({"fault": name, "error": error.detail})
                else:
                    figures = f"{one.seconds:.1f} | {one.repeated} | {one.delivered} | {one.healed_s:.1f}"
                    lines.append(f"| {name} | {figures} |")
                    rows.append(dict(msgspec.to_builtins(one)))
                say(lines[-1])
        finally:
            village.down()
    return "\n".join(lines), rows


def say(text: str) -> None:
    """What happens now; tables alone go to standard output."""
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
