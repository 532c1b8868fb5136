"""One peer of a punch in the laboratory, as a process of its own. The number makes its identity.

    python punch_process.py 0 relay /ip4/11.0.1.130/tcp/4301
    python punch_process.py 1 listener RELAY_PEER RELAY_ADDRESS OWN_KIND OTHER_KIND
    python punch_process.py 2 dialer RELAY_PEER RELAY_ADDRESS OWN_KIND OTHER_KIND LISTENER_PEER SECONDS

Each says one JSON line when it is ready; the dialer says a second one with what it measured.
"""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import trio
from libp2p.abc import INetStream
from multiaddr import Multiaddr

sys.path.insert(0, str(Path(__file__).parents[3]))

from node.libp2p_rim import libp2p_id, protocol_id
from protocol.overlay.nat_kind import NatKind
from protocol.units import PeerId
from tests.node.reach.relay_hosts import Node, open_node
from tests.node.waiting import until

SEEN = "/test/seen/1"
PORT = 4301


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def tell_address(stream: INetStream) -> None:
    """The relay tells a peer how it sees it."""
    ip, port = stream.get_remote_address() or ("", 0)
    await stream.write(f"/ip4/{ip}/tcp/{port}\n".encode())
    await stream.close()


async def relay(node: Node) -> None:
    node.relays()
    node.serve(SEEN, tell_address)
    say(peer=node.peer.hex(), address=node.address)
    await trio.sleep_forever()


async def meet(node: Node, relay_peer: PeerId, relay_address: str) -> str:
    """Connect to the relay from the listening port; how it sees us."""
    name = libp2p_id(relay_peer)
    address = Multiaddr(f"{relay_address}/p2p/{name}")
    await node.host.get_network().dial_addr(address, name, ("0.0.0.0", PORT))
    stream = await node.host.new_stream(name, [protocol_id(SEEN)])
    seen = b""
    while not seen.endswith(b"\n"):
        seen += await stream.read(100)
    return seen.decode().strip()


async def home(node: Node, role: str, words: list[str]) -> None:
    relay_peer = PeerId(bytes.fromhex(words[0]))
    seen = await meet(node, relay_peer, words[1])
    node.punches(lambda: [seen], (cast("NatKind", words[2]), cast("NatKind", words[3])))
    if role == "listener":
        await node.client.reserve(relay_peer)
        say(peer=node.peer.hex(), seen=seen)
        await trio.sleep_forever()
    await measure(node, relay_peer, PeerId(bytes.fromhex(words[4])), float(words[5]))


async def measure(node: Node, relay_peer: PeerId, peer: PeerId, patience: float) -> None:
    """Dial through the relay, use that, and see within `patience` seconds when it becomes direct."""
    started = trio.current_time()
    await node.client.dial(relay_peer, peer)
    relayed = trio.current_time() - started
    is_usable = await node.echoed(peer, b"relayed") == b"relayed"
    is_direct = await until(lambda: "direct" in node.kinds(peer), patience)
    direct = trio.current_time() - started - relayed if is_direct else None
    is_usable = is_usable and await node.echoed(peer, b"after") == b"after"
    if is_direct:
        await until(lambda: node.kinds(peer) == ["direct"], patience)
    is_usable = is_usable and await node.echoed(peer, b"later") == b"later"
    say(relayed=relayed, direct=direct, is_usable=is_usable, kinds=node.kinds(peer), upgraded=len(node.upgraded))


async def main(*arguments: str) -> None:
    number, role, *words = arguments
    address = words[0] if role == "relay" else f"/ip4/0.0.0.0/tcp/{PORT}"
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        node = await open_node(stack, nursery, int(number), address)
        if role == "relay":
            await relay(node)
        else:
            await home(node, role, words)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
