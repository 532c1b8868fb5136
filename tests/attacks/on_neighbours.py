"""Attacks by numbers: one attacker is many peers, which crowd around the victim and name only each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from node.addresses import split_address
from node.clock import Clock
from node.streams import frame, read_some, write_all
from protocol import wire
from protocol.errors import Unavailable
from protocol.gossip import rpc as rpcs
from protocol.overlay.own_record import MEMBERS
from protocol.overlay.peer_record import key_of, topic_key
from protocol.overlay.questions import Find
from tests.attacks.strangers import Stranger, Target, crowd, record, say

SYBILS: Final = 50


async def sybil(guest: Stranger) -> None:
    """A peer like others, as far as anybody can see: greets, follows, introduces itself, stays."""
    await guest.greet(capabilities=("bulk/1", "relay/1"))
    key = topic_key(guest.target.network, MEMBERS)
    me = record(guest.identity, guest.target.network, Clock().now(), topics=(key,), capabilities=("relay/1",))
    question = await guest.open(guest.target.beside("find"))
    await write_all(question, frame(wire.encode(Find(key_of(guest.identity.peer), me))))
    stream = await guest.open("/meshsub/1.2.0")
    topics = tuple(f"/shoal/{guest.target.network}/{name}" for name in ("offers", "jobs", "heads"))
    await say(stream, rpcs.Rpc(subscriptions=tuple((True, topic) for topic in topics), graft=topics))
    try:
        while await read_some(stream):
            continue
    except Unavailable:
        return


async def main(network: str, victim: str, arguments: Sequence[str]) -> None:
    """Surround the victim until killed: `on_neighbours.py NETWORK VICTIM`."""
    peer, address = split_address(victim)
    _, _, host, _, port = address.split("/")
    inside = 0

    async def one(guest: Stranger) -> None:
        nonlocal inside
        inside += 1
        print(json.dumps(inside), flush=True)
        await sybil(guest)
        await trio.sleep_forever()

    await crowd(Target(network, peer, host, int(port), 0), SYBILS, one)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3:])
