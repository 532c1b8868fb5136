"""One of the two processes of bench_bulk.py: `bulk_peer.py serve|fetch FOLDER MIB CONNECTIONS [ADDRESS DIGEST]`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from libp2p.abc import IHost, INetStream

sys.path.insert(0, str(Path(__file__).parents[1]))

from node import entropy, libp2p_patches
from node.addresses import AddressBook, split_address
from node.blobs import BlobStore
from node.bulk import download
from node.bulk.plane import BulkPlane
from node.dialer import Dialer
from node.libp2p_rim import in_nursery, listen, make_host, protocol_id
from node.requests import Requests
from protocol.errors import RemoteViolation
from protocol.identity import Identity
from protocol.units import GIB, MIB, Digest

PIECE = 64 * MIB
LISTEN = ("/ip4/127.0.0.1/tcp/0",)


def cpu_s() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@asynccontextmanager
async def plane(name: str, folder: Path) -> AsyncIterator[tuple[BulkPlane, BlobStore, Dialer, IHost]]:
    """A data plane over a bare libp2p host: no gossip and no sessions, so that nothing else is measured."""
    store = BlobStore(folder / name, 64 * GIB)
    identity = Identity(name.encode().ljust(32, b"."))
    host = make_host(identity, LISTEN, entropy.seed())
    counts: Counter[str] = Counter()

    async def complain(violation: RemoteViolation) -> None:
        raise violation

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        stack.push_async_callback(libp2p_patches.close_listeners, host)
        dialer = Dialer(host, AddressBook(), entropy.dice())
        stack.push_async_callback(dialer.close)

        def register(protocol: str, handle: Callable[[INetStream], Awaitable[None]]) -> None:
            host.set_stream_handler(protocol_id(protocol), in_nursery(nursery, handle))

        requests = Requests("bench", dialer, complain, register, counts)
        made = BulkPlane("bench", identity, store, dialer, requests, complain, counts)
        register(made.protocol, made.serve)
        await listen(host, LISTEN, stack)
        await stack.enter_async_context(
            made.serving(["127.0.0.1"], 0, lambda: [str(address) for address in host.get_addrs()])
        )
        yield made, store, dialer, host


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
    async with plane("holder", folder) as (_, store, _, host):
        digest = await filled(store, folder, size)
        print(json.dumps([str(host.get_addrs()[0]), digest.hex()]), flush=True)
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
    peer, head = split_address(address)
    async with plane("fetcher", folder) as (made, store, dialer, _):
        dialer.book.learn(peer, (head,))
        for _ in range(reps):
            late: list[float] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lateness, late)
                before, start = cpu_s(), time.perf_counter()
                size = (await made.fetch(digest, 64 * GIB, [peer], is_output=False)).size
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
