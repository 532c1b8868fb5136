"""A node in a process of its own, to be killed: `bulk_process.py FOLDER NAME RATE [ADDRESS DIGEST SIZE_MAX [LAST]]`.

Without an address it serves, at most RATE bytes per second; with one it fetches. It prints its address, then news. When
LAST bytes have come it kills itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[3]))

from node.addresses import split_address
from node.blobs import BlobStore
from node.transport import Transport, TransportConfig
from protocol.identity import Identity
from protocol.units import GIB, Digest


async def main(folder: str, name: str, rate: int, wanted: list[str]) -> None:
    """Serve until killed, or fetch once."""
    store = BlobStore(Path(folder), GIB)
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
    transport = Transport(Identity(name.encode().ljust(32, b".")), "reef", config, store)
    async with transport.serving():
        plane = transport._serving.blobs
        if rate:
            plane.up.set_rate(rate)
            plane.down.set_rate(rate)
        print(transport.addresses()[0], flush=True)
        if not wanted:
            await trio.sleep_forever()
        peer, address = split_address(wanted[0])
        transport.learn(peer, (address,))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report, transport, int(wanted[3]) if len(wanted) > 3 else sys.maxsize)
            await transport.fetch(Digest(bytes.fromhex(wanted[1])), int(wanted[2]), [peer])
            nursery.cancel_scope.cancel()
        print(json.dumps(["done", transport.statistics()["blob_bytes_received"]]), flush=True)


async def report(transport: Transport, last: int) -> None:
    """Say how much came, until it is enough."""
    while True:
        came = transport.statistics().get("blob_bytes_received", 0)
        print(json.dumps(["received", came]), flush=True)
        if came >= last:
            os.kill(os.getpid(), signal.SIGKILL)
        await trio.sleep(0.02)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
