"""The transport between real processes: latency, messages per second, blob speed, idle cost of connected nodes.

python benchmarks/bench_transport.py [--idle SECONDS]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.blobs import BlobStore
from node.transport import PeerUp, Received, Transport, TransportConfig
from protocol.identity import Identity
from protocol.messages import Beat, BlocksRequest
from protocol.units import GIB, MIB, PeerId

PINGS = 500
BURST = 20_000
BLOB_BYTES = 64 * MIB


def make(name: str, folder: Path, bootstraps: tuple[str, ...] = ()) -> tuple[Transport, BlobStore]:
    """A node's transport with a store of its own."""
    blobs = BlobStore(folder / name, 8 * GIB)
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), bootstraps=bootstraps)
    return Transport(Identity(name.encode().ljust(32, b".")), "bench", config, blobs), blobs


async def echo(folder: Path, name: str, bootstraps: list[str]) -> None:
    """The other process: answer every BlocksRequest with itself, count beats, answer after the last one."""
    transport, _ = make(name, folder, tuple(bootstraps))
    async with transport.serving():
        print(json.dumps(transport.addresses()), flush=True)
        beats = 0
        async for arrival in transport.inbox:
            match arrival:
                case Received(sender, BlocksRequest() as message):
                    transport.send_nowait(sender, message)
                case Received(sender, Beat()):
                    beats += 1
                    if beats % BURST == 0:
                        transport.send_nowait(sender, BlocksRequest(beats))


async def answer(transport: Transport) -> None:
    """Wait for the next direct message."""
    async for arrival in transport.inbox:
        if isinstance(arrival, Received):
            return


async def pings(transport: Transport, peer: PeerId) -> dict[str, float]:
    """Round trips of one small message at a time, in milliseconds."""
    times = []
    for height in range(PINGS):
        start = time.perf_counter()
        transport.send_nowait(peer, BlocksRequest(height))
        await answer(transport)
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    return {"rtt_p50_ms": round(statistics.median(times), 2), "rtt_p99_ms": round(times[int(PINGS * 0.99)], 2)}


async def burst(transport: Transport, peer: PeerId) -> dict[str, float]:
    """Beats as fast as the link takes them, acknowledged at the end."""
    start = time.perf_counter()
    for sequence in range(BURST):
        transport.send_nowait(peer, Beat(bytes(32), 1, 1, sequence, "running"))
        if sequence % 256 == 0:
            while transport.statistics()["messages_queued"] > 512:  # noqa: ASYNC110  a queue has no event
                await trio.sleep(0.001)
    await answer(transport)
    return {"messages_per_s": round(BURST / (time.perf_counter() - start))}


async def blob(transport: Transport, peer: PeerId, store: BlobStore, data: bytes) -> dict[str, float]:
    """One large blob, verified."""
    digest = store.put(data)
    store.remove(digest)
    start = time.perf_counter()
    await transport.fetch(digest, 2 * len(data), [peer])
    return {"blob_mb_per_s": round(len(data) / (time.perf_counter() - start) / 1e6, 1)}


async def measure(idle_s: float) -> None:
    """Two processes for speed, then six for what idling costs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transport, store = make("client", folder)
        data = bytes(range(256)) * (BLOB_BYTES // 256)
        BlobStore(folder / "echo0", 8 * GIB).put(data)
        children: list[subprocess.Popen[str]] = []
        async with transport.serving():
            try:
                for number in range(5):
                    children.append(start(folder, f"echo{number}", transport.addresses()))
                    json.loads(children[-1].stdout.readline() if children[-1].stdout else "")
                    if number == 0:
                        peer = await first_up(transport)
                        print(json.dumps(await pings(transport, peer)), flush=True)
                        print(json.dumps(await burst(transport, peer)), flush=True)
                        print(json.dumps(await blob(transport, peer, store, data)), flush=True)
                await idle(children, idle_s, transport)
            finally:
                for child in children:
                    child.kill()
                    child.wait()


async def first_up(transport: Transport) -> PeerId:
    """The peer that connects first."""
    async for arrival in transport.inbox:
        if isinstance(arrival, PeerUp):
            return arrival.peer
    raise RuntimeError("nobody connected")


async def idle(children: list[subprocess.Popen[str]], seconds: float, transport: Transport) -> None:
    """CPU share and memory of connected processes that have nothing to do."""
    with trio.fail_after(10):
        while len(transport.connected()) < len(children):  # noqa: ASYNC110  the inbox is not read here
            await trio.sleep(0.05)
    await trio.sleep(3)
    processes = [psutil.Process(child.pid) for child in children]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    mine = resource.getrusage(resource.RUSAGE_SELF)
    await trio.sleep(seconds)
    shares = [(sum(process.cpu_times()[:2]) - was) / seconds for process, was in zip(processes, before, strict=True)]
    now = resource.getrusage(resource.RUSAGE_SELF)
    hub = (now.ru_utime + now.ru_stime - mine.ru_utime - mine.ru_stime) / seconds
    print(
        json.dumps(
            {
                "idle_cpu_percent": [round(100 * share, 2) for share in shares],
                "hub_cpu_percent": round(100 * hub, 2),
                "rss_mb": [round(process.memory_info().rss / 1e6) for process in processes],
                "connected": len(transport.connected()),
            }
        ),
        flush=True,
    )


def start(folder: Path, name: str, addresses: list[str]) -> subprocess.Popen[str]:
    """Another process of this file."""
    command = [sys.executable, __file__, "--echo", name, "--folder", str(folder), *addresses]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> None:
    """Measure, or be the other process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=20.0)
    parser.add_argument("--echo", default="")
    parser.add_argument("--folder", default="")
    parser.add_argument("bootstraps", nargs="*")
    options = parser.parse_args()
    if options.echo:
        trio.run(echo, Path(options.folder), options.echo, options.bootstraps)
    else:
        trio.run(measure, options.idle)


if __name__ == "__main__":
    main()
