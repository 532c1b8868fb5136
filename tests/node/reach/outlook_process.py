"""A node, or several, in a network namespace: tells addresses, and how the world sees it, as JSON lines.

    outlook_process.py FOLDER SEED ADDRESS [ADDRESS …] [-- BOOTSTRAP …]

One node per listen address, the n-th with the seed SEED + n. Ends when its standard input ends.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from node.blobs import BlobStore
from node.reach.outlook import Outlook
from node.transport import Transport, TransportConfig
from protocol.identity import Identity
from protocol.units import GIB

LIMIT_S = 240.0


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event} | fields), flush=True)


async def tell(outlook: Outlook) -> None:
    """Every change of what `doctor` would be told."""
    last = ""
    while True:
        status = outlook.status()
        text = json.dumps(status)
        if text != last:
            last = text
            say("status", **status)
        await trio.sleep(0.1)


async def main(folder: Path, seed: int, listen: list[str], bootstraps: list[str]) -> None:
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            for number, address in enumerate(listen):
                name = Identity(bytes([seed + number]) * 32)
                config = TransportConfig(
                    listen=(address,), bootstraps=tuple(bootstraps), neighbours_min=0, maps_ports=bool(bootstraps)
                )
                transport = Transport(name, "reef", config, BlobStore(folder / str(seed + number), GIB))
                await stack.enter_async_context(transport.serving())
                say("ready", addresses=transport.addresses())
                if bootstraps:
                    assert transport.overlay is not None
                    nursery.start_soon(tell, transport.overlay.outlook)
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()


words = sys.argv[1:]
cut = words.index("--") if "--" in words else len(words)
trio.run(main, Path(words[0]), int(words[1]), words[2:cut], words[cut + 1 :])
