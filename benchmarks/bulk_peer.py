"""One of the two processes of bench_bulk.py: `bulk_peer.py serve|fetch FOLDER MIB CONNECTIONS [ADDRESS DIGEST]`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from node.blobs import BlobStore
from node.bulk import download
from node.transport import Transport, TransportConfig
from protocol.identity import Identity
from protocol.units import GIB, MIB, Digest

PIECE = 64 * MIB


def cpu_s() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make(name: str, folder: Path) -> tuple[Transport, BlobStore]:
    """A node's transport with a store of its own."""
    store = BlobStore(folder / name, 64 * GIB)
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
    return Transport(Identity(name.encode().ljust(32, b".")), "bench", config, store), store


async def filled(store: BlobStore, folder: Path, size: int) -> Digest:
    """A blob of random bytes, distinct in every page."""
    path = folder / "source"
    with path.open("wb") as file:
        for _ in range(0, size, PIECE):
            file.write(os.urandom(PIECE))
    digest, _ = await store.put_file(path)
    path.unlink()
    return digest


async def serve(folder: Path, size: int) -> None:
    """Hold one blob; print what is needed to fetch it; after each line on stdin print the CPU time so far."""
    transport, store = make("holder", folder)
    digest = await filled(store, folder, size)
    async with transport.serving():
        print(json.dumps([transport.addresses()[0], digest.hex()]), flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(cpu_s()), flush=True)


async def lateness(worst: list[float]) -> None:
    """How late a heartbeat of 20 ms is on the main loop, ms."""
    while True:
        due = trio.current_time() + 0.02
        await trio.sleep_until(due)
        worst.append((trio.current_time() - due) * 1e3)


async def fetch(folder: Path, address: str, digest: Digest, reps: int) -> None:
    """Fetch it again and again; one line of figures each."""
    transport, store = make("fetcher", folder)
    head, _, peer_text = address.rpartition("/p2p/")
    from protocol.identity import peer_from_text

    peer = peer_from_text(peer_text)
    async with transport.serving():
        transport.learn(peer, (head,))
        for _ in range(reps):
            late: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lateness, late)
                before, start = cpu_s(), time.perf_counter()
                size = (await transport.fetch(digest, 64 * GIB, [peer])).size
                seconds = time.perf_counter() - start
                nursery.cancel_scope.cancel()
            late.sort()
            figures = {
                "mb_per_s": size / seconds / 1e6,
                "cpu_s_per_gb": (cpu_s() - before) / size * 1e9,
                "late_p50_ms": late[len(late) // 2],
                "late_p99_ms": late[int(len(late) * 0.99)],
                "late_max_ms": late[-1],
            }
            print(json.dumps(figures), flush=True)
            store.remove(digest)


def main() -> None:
    """Be one side."""
    role, folder, number, connections = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if connections == 1:
        download.TWIN_BYTES = 1 << 60  # type: ignore[misc]
    if role == "serve":
        trio.run(serve, folder, number * MIB)
    else:
        trio.run(fetch, folder, sys.argv[5], Digest(bytes.fromhex(sys.argv[6])), number)


if __name__ == "__main__":
    main()
