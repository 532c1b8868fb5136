"""The data plane between two processes over loopback, beside what else could move the bytes. CPU per GB of each side.

python benchmarks/bench_bulk.py [--mib N] [--reps N] [--disk FOLDER] [--iroh PYTHON]

Every byte is encrypted, authenticated and verified twice (chunk and whole), read from one store and written to another:
memory (tmpfs), then a real disk with fsync. `--iroh`: a Python that has iroh 1.2.0, in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import js_packages
from benchmarks.report import FOLDER, Aim, Figure, machine, show, write

ROOT: Final = Path(__file__).parents[1]
PEER: Final = str(Path(__file__).with_name("bulk_peer.py"))
RIVALS: Final = str(Path(__file__).with_name("bulk_rivals.py"))
JS_PEER: Final = ROOT / "tests" / "interop" / "peer.mjs"
MIB_EACH: Final = 1_024
REPS: Final = 5
IROH: Final = "SHOAL_IROH_PYTHON"
"""Environment variable: a Python that has iroh."""
FAST: Final = Aim("least", 1_000.0)
SHARE: Final = Aim("least", 0.8)


@contextmanager
def child(*command: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """A process to talk to by lines: (its stdin, its stdout). It is dead at the end of the block."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def plane(folder: Path, mib: int, reps: int, connections: int) -> dict[str, list[float]]:
    """Fetch one blob again and again; the first time, for which the holder has to make its list, is listed apart."""
    rows: list[dict[str, float]] = []
    held: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as name, ExitStack() as stack:
        ask, said = stack.enter_context(child(sys.executable, PEER, "serve", name, str(mib), str(connections)))
        address, digest = json.loads(said.readline())
        command = (sys.executable, PEER, "fetch", name, str(reps + 1), str(connections), address, digest)
        _, news = stack.enter_context(child(*command))
        for _ in range(reps + 1):
            rows.append(json.loads(news.readline()))
            ask.write("\n")
            ask.flush()
            held.append(json.loads(said.readline()))
    gigabytes = mib * (1 << 20) / 1e9
    found = {key: [row[key] for row in rows[1:]] for key in rows[0]}
    found["first_mb_per_s"] = [rows[0]["mb_per_s"]]
    found["holder_cpu_s_per_gb"] = [(b - a) / gigabytes for a, b in pairwise(held)]
    return found


def rival(kind: str, python: str, mib: int, reps: int) -> list[dict[str, float]]:
    """One of bulk_rivals.py, several times."""
    rows = []
    for _ in range(reps):
        with child(python, RIVALS, kind, "serve", str(mib)) as (_, said):
            where = said.readline().strip()
            with child(python, RIVALS, kind, "send", str(mib), where) as (_, news):
                rows.append(json.loads(news.readline()))
    return rows


def js(mib: int, reps: int) -> list[dict[str, float]]:
    """js-libp2p, TCP + Noise + yamux, writes of 1 MiB."""
    with child("node", str(JS_PEER)) as (listen, heard), child("node", str(JS_PEER)) as (dial, news):
        address = asked(listen, heard, {"id": 1, "do": "listen"})["addresses"]
        assert isinstance(address, list)
        asked(dial, news, {"id": 1, "do": "listen", "address": None})
        ask = {"id": 2, "do": "bulk", "peer": address[0], "size": mib << 20, "block": 1 << 20}
        found = [asked(dial, news, ask) for _ in range(reps)]
        return [{key: float(str(row[key])) for key in ("mb_per_s", "cpu_tx", "cpu_rx")} for row in found]


def asked(ask: IO[str], said: IO[str], command: dict[str, object]) -> dict[str, object]:
    """The answer of a js peer to one command."""
    ask.write(json.dumps(command) + "\n")
    ask.flush()
    while True:
        line: dict[str, object] = json.loads(said.readline())
        if line.get("id") == command["id"]:
            return line


def plane_figures(name: str, found: dict[str, list[float]], aim: Aim | None) -> list[Figure]:
    """What is reported of one way to run the plane."""
    return [
        Figure(f"bulk, {name}", "MB/s", tuple(found["mb_per_s"]), aim),
        Figure(f"bulk, {name}, first time", "MB/s", tuple(found["first_mb_per_s"]), note="the holder makes its list"),
        Figure(f"bulk, {name}, fetcher", "CPU s/GB", tuple(found["cpu_s_per_gb"])),
        Figure(f"bulk, {name}, holder", "CPU s/GB", tuple(found["holder_cpu_s_per_gb"])),
        Figure(f"bulk, {name}, heartbeat late p99", "ms", tuple(found["late_p99_ms"])),
        Figure(f"bulk, {name}, heartbeat late, worst", "ms", tuple(found["late_max_ms"])),
    ]


def rival_figures(name: str, rows: list[dict[str, float]], mib: int) -> list[Figure]:
    """Speed and cost of something else."""
    gigabytes = mib * (1 << 20) / 1e9
    cost = tuple((row["cpu_tx"] + row["cpu_rx"]) / gigabytes for row in rows)
    speed = tuple(row["mb_per_s"] for row in rows)
    return [Figure(name, "MB/s", speed), Figure(f"{name}, both sides", "CPU s/GB", cost)]


def measure(
    say: Callable[[str], None], mib: int = MIB_EACH, reps: int = REPS, disk: str = "", iroh: str = ""
) -> list[Figure]:
    """Everything, ours between the others so that a change of the machine's mood is seen."""
    memory = Path("/dev/shm")
    figures: list[Figure] = []
    say("bulk: TLS sockets and ours by turns")
    tls, stored = rival("tls", sys.executable, mib, reps), rival("stored", sys.executable, mib, reps)
    one, two = plane(memory, mib, reps, 1), plane(memory, mib, reps, 2)
    figures += plane_figures("memory, 1 connection", one, None)
    figures += plane_figures("memory, 2 connections (as it comes)", two, FAST)
    tls += rival("tls", sys.executable, mib, reps)
    stored += rival("stored", sys.executable, mib, reps)
    say("bulk: to a real disk")
    figures += plane_figures("disk, 2 connections", plane(Path(disk or tempfile.gettempdir()), mib, reps, 2), None)
    figures += rival_figures("TLS 1.3 socket, bytes thrown away", tls, mib)
    figures += rival_figures("TLS 1.3 socket, stored and hashed twice", stored, mib)
    for name, found, aim in (("1 connection", one, None), ("2 connections", two, SHARE)):
        for what, rows in (("thrown away", tls), ("stored and hashed", stored)):
            shares = _over(found["mb_per_s"], [row["mb_per_s"] for row in rows])
            bound = aim if rows is tls else None
            figures.append(Figure(f"bulk, {name} : TLS socket, {what}", "×", (shares,), bound))
    say("bulk: libp2p streams and iroh")
    figures += rival_figures("py-libp2p stream, stock", rival("stock", sys.executable, 128, reps), 128)
    if why := js_packages.missing():
        say(f"bulk js is skipped: {why}")
    else:
        figures += rival_figures("js-libp2p stream", js(256, reps), 256)
    if iroh:
        figures += rival_figures("iroh, binding mended", rival("iroh", iroh, 256, reps), 256)
    else:
        say(f"iroh is skipped: name a Python that has it with --iroh, or in {IROH}")
    return figures


def _over(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(ours) / statistics.median(theirs)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=MIB_EACH)
    parser.add_argument("--reps", type=int, default=REPS)
    parser.add_argument("--disk", default="")
    parser.add_argument("--iroh", default=os.environ.get(IROH, ""))
    parser.add_argument("--out", type=Path, default=FOLDER / "bench_bulk.json")
    options = parser.parse_args()
    facts = machine()
    figures = measure(lambda text: print(f"· {text}"), options.mib, options.reps, options.disk, options.iroh)
    write(facts, figures, options.out)
    show(facts, figures)


if __name__ == "__main__":
    main()
