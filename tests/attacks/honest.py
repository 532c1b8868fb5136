"""An honest peer in a process of its own: again and again it connects afresh, greets, asks, and says how long it took.

`honest.py FOLDER NETWORK VICTIM INTERVAL [LISTEN]` prints its own address first, then one JSON line per attempt. With
`-` for the victim it dials nobody, and prints the peers that are up with it whenever these change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.addresses import split_address
from node.blobs import BlobStore
from node.transport import Transport, TransportConfig
from protocol.errors import Refused, Unavailable
from protocol.identity import Identity, peer_text
from protocol.overlay.peer_record import key_of
from protocol.overlay.questions import Find, found_decoder
from protocol.units import GIB, PeerId

PATIENCE_S: Final = 60.0
"""An attempt that takes longer counts as that long: it stalled."""

HONEST: Final = Identity(b"an honest peer".ljust(32, b"."))


async def main(folder: str, network: str, victim: str, interval: float, listen: str) -> None:
    """Measure until killed."""
    config = TransportConfig(listen=(listen,), neighbours_min=0)
    transport = Transport(HONEST, network, config, BlobStore(Path(folder), GIB))
    async with transport.serving(), trio.open_nursery() as nursery:
        nursery.start_soon(_drain, transport)
        print(transport.addresses()[0], flush=True)
        if victim == "-":
            await _watch(transport)
        peer, address = split_address(victim)
        transport.learn(peer, (address,))
        while True:
            started = trio.current_time()
            error, reached = "no answer", list[float]()
            with trio.move_on_after(PATIENCE_S):
                error = await _attempt(transport, peer, reached)
            steps = [round(at - started, 3) for at in reached]
            took = steps[-1] if not error else PATIENCE_S
            print(json.dumps({"seconds": took, "error": error, "steps": steps}), flush=True)
            await trio.sleep(max(0.0, interval - (trio.current_time() - started)))


async def _attempt(transport: Transport, peer: PeerId, reached: list[float]) -> str:
    """Connect, Hello, one question, each with the time it took; why it failed, or nothing."""
    parts, overlay = transport._serving, transport._opened
    try:
        await parts.dialer.connect(peer)
        reached.append(trio.current_time())
        while peer not in parts.sessions.up:
            await parts.sessions.changed.wait()
        reached.append(trio.current_time())
        question = Find(key_of(peer), overlay.finder.directory.own.signed)
        await parts.requests.ask(peer, "find", question, found_decoder, PATIENCE_S)
        reached.append(trio.current_time())
    except (Unavailable, Refused) as error:
        return error.detail
    finally:
        with trio.CancelScope(shield=True):
            await parts.dialer.disconnect(peer)
            with trio.move_on_after(1):
                while peer in parts.sessions.up:
                    await parts.sessions.changed.wait()
    return ""


async def _watch(transport: Transport) -> None:
    while True:
        changed = transport._serving.sessions.changed
        print(json.dumps([peer_text(peer) for peer in transport.connected()]), flush=True)
        await changed.wait()


async def _drain(transport: Transport) -> None:
    async for _ in transport.inbox:
        continue


if __name__ == "__main__":
    trio.run(
        main,
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        float(sys.argv[4]),
        sys.argv[5] if len(sys.argv) > 5 else "/ip4/127.0.0.1/tcp/0",
    )
