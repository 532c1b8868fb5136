"""A node's transport in a process of its own, to be killed: `transport_process.py FOLDER NETWORK BOOTSTRAP…`."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.blobs import BlobStore
from node.transport import Transport, TransportConfig
from protocol.identity import Identity


async def main(folder: str, network: str, bootstraps: list[str]) -> None:
    """Serve until killed."""
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), bootstraps=tuple(bootstraps))
    async with Transport(Identity(b"k" * 32), network, config, BlobStore(Path(folder), 1 << 30)).serving():
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3:])
