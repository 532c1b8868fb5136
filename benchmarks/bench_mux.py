"""The muxer: ours, libp2p's own and js-libp2p's, each between two processes of its kind, in one run.

python benchmarks/bench_mux.py [--runs N] [--only ours stock js]

Bulk on one stream, round trips on one stream and on a stream each, connect to first byte, memory of a connection's end.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import IO, Final

import psutil
import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from multiaddr import Multiaddr

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import js_packages, report
from benchmarks.report import Aim, Figure
from node import libp2p_patches
from node.libp2p_rim import listen, make_host, protocol_id
from protocol.identity import Identity
from protocol.units import MIB

KINDS: Final = ("ours", "stock", "js")
ECHO: Final = "/shoal-interop/echo/1"
SINK: Final = "/shoal-interop/sink/1"
ANY: Final = "/ip4/127.0.0.1/tcp/0"
BULK_BYTES: Final = {"ours": 512 * MIB, "stock": 128 * MIB, "js": 256 * MIB}
BLOCK_BYTES: Final = 1 * MIB
REQUEST_BYTES: Final = 1_024
REQUESTS: Final = 1_000
STREAMS: Final = 200
CONNECTS: Final = 11
ENDS: Final = 60
PEER_MJS: Final = Path(__file__).parents[1] / "tests" / "interop" / "peer.mjs"

Values = dict[str, float]

AIMS: Final[dict[str, tuple[str, str, Aim | None]]] = {
    "bulk_mb_s": ("bulk, one stream", "MB/s", Aim("least", 500.0)),
    "bulk_tx_cpu": ("  CPU of the sender", "s/GB", None),
    "bulk_rx_cpu": ("  CPU of the receiver", "s/GB", None),
    "p50_ms": ("request of 1 KiB, p50", "ms", Aim("most", 0.3)),
    "p99_ms": ("  p99", "ms", None),
    "cpu_us": ("  CPU of the asker", "µs", None),
    "fresh_p50_ms": ("request on a new stream, p50", "ms", None),
    "fresh_p99_ms": ("  p99", "ms", None),
    "fresh_cpu_us": ("  CPU of the asker", "µs", None),
    "connect_ms": ("connect to first byte", "ms", Aim("most", 20.0)),
    "end_kb": ("memory of one end of an idle connection", "kB", None),
}


async def new_host(stack: AsyncExitStack) -> IHost:
    """A host on loopback until the stack unwinds."""
    host = make_host(Identity(secrets.token_bytes(32)), [ANY], secrets.token_bytes(32))
    stack.push_async_callback(libp2p_patches.close_listeners, host)
    await listen(host, [ANY], stack)
    return host


async def exactly(stream: INetStream, size: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


async def echo(stream: INetStream) -> None:
    """Everything comes back."""
    with suppress(EOFError):
        while data := await stream.read(65_536):
            await stream.write(data)
    await stream.close()


async def sink(stream: INetStream) -> None:
    """Swallow as many bytes as the first eight say, and tell what that cost."""
    left = int.from_bytes(await exactly(stream, 8), "big")
    used = time.process_time()
    while left > 0:
        left -= len(await stream.read(BLOCK_BYTES))
    await stream.write(json.dumps({"cpu": time.process_time() - used}).encode())
    await stream.close()


async def serve() -> None:
    """The other process."""
    async with AsyncExitStack() as stack:
        host = await new_host(stack)
        host.set_stream_handler(protocol_id(ECHO), echo)
        host.set_stream_handler(protocol_id(SINK), sink)
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


async def client(kind: str, address: str) -> Values:
    """All figures of one run."""
    info = info_from_p2p_addr(Multiaddr(address))
    async with AsyncExitStack() as stack:
        host = await new_host(stack)
        await host.connect(info)
        found = await bulk(host, info, BULK_BYTES[kind])
        found |= await requests(host, info)
        found["connect_ms"] = await connect(info)
        found["end_kb"] = await ends(host, info)
    return found


async def bulk(host: IHost, info: PeerInfo, size: int) -> Values:
    """One stream, as fast as it goes."""
    stream = await host.new_stream(info.peer_id, [protocol_id(SINK)])
    await stream.write(size.to_bytes(8, "big"))
    block = bytes(BLOCK_BYTES)
    used, started = time.process_time(), time.perf_counter()
    for _ in range(size // BLOCK_BYTES):
        await stream.write(block)
    answer = json.loads(await stream.read(4_096))
    seconds = time.perf_counter() - started
    return {
        "bulk_mb_s": size / seconds / 1e6,
        "bulk_tx_cpu": (time.process_time() - used) / size * 1e9,
        "bulk_rx_cpu": answer["cpu"] / size * 1e9,
    }


async def requests(host: IHost, info: PeerInfo) -> Values:
    """Round trips one after the other."""
    payload = bytes(REQUEST_BYTES)

    async def ask(stream: INetStream) -> None:
        await stream.write(payload)
        await exactly(stream, REQUEST_BYTES)

    stream = await host.new_stream(info.peer_id, [protocol_id(ECHO)])
    one, cpu = [], time.process_time()
    for _ in range(REQUESTS):
        started = time.perf_counter()
        await ask(stream)
        one.append((time.perf_counter() - started) * 1e3)
    cpu_one, cpu = (time.process_time() - cpu) / REQUESTS, time.process_time()
    each = []
    for _ in range(STREAMS):
        started = time.perf_counter()
        stream = await host.new_stream(info.peer_id, [protocol_id(ECHO)])
        await ask(stream)
        each.append((time.perf_counter() - started) * 1e3)
        await stream.close()
    cpu_each = (time.process_time() - cpu) / STREAMS
    return {
        "p50_ms": statistics.median(one),
        "p99_ms": sorted(one)[len(one) * 99 // 100],
        "cpu_us": cpu_one * 1e6,
        "fresh_p50_ms": statistics.median(each),
        "fresh_p99_ms": sorted(each)[len(each) * 99 // 100],
        "fresh_cpu_us": cpu_each * 1e6,
    }


async def connect(info: PeerInfo) -> float:
    """Milliseconds from the dial of a fresh host to the first byte of an answer."""
    times = []
    for _ in range(CONNECTS):
        async with AsyncExitStack() as stack:
            host = await new_host(stack)
            started = time.perf_counter()
            await host.connect(info)
            stream = await host.new_stream(info.peer_id, [protocol_id(ECHO)])
            await stream.write(b"x")
            await exactly(stream, 1)
            times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


async def ends(host: IHost, info: PeerInfo) -> float:
    """Kilobytes that a connection adds to the side that is dialled: many hosts here dial one."""
    async with AsyncExitStack() as stack:
        hosts = [await new_host(stack) for _ in range(ENDS)]
        hub = PeerInfo(
            host.get_id(), [address for found in host.get_network().listeners.values() for address in found.get_addrs()]
        )
        await hosts[0].connect(hub)
        await trio.sleep(1)
        gc.collect()
        before = psutil.Process().memory_info().rss
        for each in hosts[1:]:
            await each.connect(hub)
        await trio.sleep(2)
        gc.collect()
        return (psutil.Process().memory_info().rss - before) / (2 * (ENDS - 1)) / 1e3


def ask_js(process: subprocess.Popen[str], **command: object) -> dict[str, float | str | list[str]]:
    """One command of peer.mjs."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"id": 1, **command}) + "\n")
    process.stdin.flush()
    while True:
        answer: dict[str, float | str | list[str]] = json.loads(process.stdout.readline())
        if answer.get("id") == 1:
            return answer


def js_run() -> Values:
    """The figures between two js peers; without connect's first byte, and without memory."""
    command = ["node", str(PEER_MJS)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        listening, dialling = processes
        addresses = ask_js(listening, do="listen")["addresses"]
        assert isinstance(addresses, list)
        peer = addresses[0]
        ask_js(dialling, do="listen", address=None)
        found: Values = {"connect_ms": number_in(ask_js(dialling, do="dial", peer=peer), "ms")}
        size = BULK_BYTES["js"]
        sent = ask_js(dialling, do="bulk", peer=peer, size=size)
        found["bulk_mb_s"] = number_in(sent, "mb_per_s")
        found["bulk_tx_cpu"] = number_in(sent, "cpu_tx") / size * 1e9
        found["bulk_rx_cpu"] = number_in(sent, "cpu_rx") / size * 1e9
        asked = ask_js(dialling, do="requests", peer=peer, number=REQUESTS, size=REQUEST_BYTES)
        return found | {name: number_in(asked, name) for name in asked if name != "id"}
    finally:
        for process in processes:
            process.kill()
            process.wait()


def number_in(answer: dict[str, float | str | list[str]], name: str) -> float:
    """One value of an answer, which says what went wrong otherwise."""
    value = answer.get(name)
    if not isinstance(value, float | int):
        raise RuntimeError(f"js: no {name} in {answer}")
    return float(value)


def python_run(kind: str) -> Values:
    """The figures between two Python processes with one muxer."""
    environment = os.environ | {libp2p_patches.MUXER_VARIABLE: kind}
    command = [sys.executable, __file__]
    server = subprocess.Popen([*command, "--serve"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        address = first_line(server.stdout)
        done = subprocess.run(
            [*command, "--client", kind, address], capture_output=True, text=True, env=environment, check=True
        )
        found: Values = json.loads(done.stdout)
        return found
    finally:
        server.kill()
        server.wait()


def first_line(stream: IO[str] | None) -> str:
    """What a process says first."""
    assert stream is not None
    return stream.readline().strip()


def measure(runs: int, kinds: Sequence[str], say: Callable[[str], None]) -> list[Figure]:
    """The kinds by turns, so that what else the machine does meets all of them."""
    if "js" in kinds and (why := js_packages.missing()):
        say(f"muxer js is skipped: {why}")
        kinds = [kind for kind in kinds if kind != "js"]
    found: dict[str, list[Values]] = {kind: [] for kind in kinds}
    for run in range(runs):
        for kind in kinds:
            say(f"muxer {kind}, run {run + 1} of {runs}")
            found[kind].append(js_run() if kind == "js" else python_run(kind))
    figures = []
    for kind in kinds:
        for key, (name, unit, aim) in AIMS.items():
            values = tuple(values[key] for values in found[kind] if key in values)
            if values:
                note = "dial only" if kind == "js" and key == "connect_ms" else ""
                figures.append(
                    Figure(f"mux {kind}: {name.strip()}", unit, values, aim if kind == "ours" else None, note)
                )
    return figures


def main() -> None:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=None)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--client", nargs=2, metavar=("KIND", "ADDRESS"))
    options = parser.parse_args()
    if options.serve:
        trio.run(serve)
    elif options.client:
        print(json.dumps(trio.run(client, *options.client)))
    else:
        facts = report.machine()
        figures = measure(options.runs, options.only or KINDS, lambda line: print(line, file=sys.stderr, flush=True))
        report.write(facts, figures, report.FOLDER / "bench-mux.json")
        report.show(facts, figures)


if __name__ == "__main__":
    main()
