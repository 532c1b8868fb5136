"""Sessions, questions and statements of a peer that was written from the documents, in JavaScript."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from node.arrivals import PeerDown, Received, Statement
from node.gossip import now
from protocol import wire
from protocol.identity import peer_from_text
from protocol.messages import Decline, Offer
from protocol.units import PeerId
from tests.interop.conftest import NETWORK, join
from tests.interop.js_peer import JsPeer
from tests.node.bulk.conftest import Node
from tests.node.test_gossip import statement
from tests.node.waiting import SECONDS, happens

TOPIC: Final = f"/shoal/{NETWORK}/offers"
OFFER: Final[dict[str, object]] = {
    "type": "offer", "sequence": 70_000, "issued": 1_700_000_000_000_000, "expires": 4_000_000_000_000_000,
    "roles": ["provider"], "addresses": ["/ip4/192.0.2.7/tcp/4001"],
    "capability": {"cpus_milli": 8000, "memory_bytes": 2**34, "disk_bytes": 2**40, "cpu_gflops": 0, "hash_mbps": 300,
                   "gpus": [{"vendor": "nvidia", "name": "a card", "memory_bytes": 2**34, "gemm_gflops": 255,
                             "bandwidth_mbps": 256}]},
    "executors": ["bwrap"], "runtimes": [{"name": "python", "digest": "0x" + "ab" * 32}], "slots": 2, "slots_free": 1,
    "price_per_hour": 65_536, "serves": [], "is_draining": False,
}  # fmt: skip
"""As specs/04-offers.md and the vectors have it. `place` is not known, so it is not there."""


async def received(ours: Node, kind: type[Received | Statement | PeerDown]) -> Received | Statement | PeerDown:
    """The next arrival of a kind."""
    with trio.fail_after(SECONDS):
        async for arrival in ours.transport.inbox:
            if isinstance(arrival, kind):
                return arrival
    raise AssertionError("the inbox ended")


def decline(number: int) -> dict[str, object]:
    """A message, as JavaScript is told it."""
    return {"type": "decline", "op": f"0x{number:064x}", "code": "no"}


async def follow(js: JsPeer, ours: Node) -> None:
    """The js peer is in our mesh and we are in its."""
    await join(js, ours)
    await js.do("gossip", subscribe=TOPIC)
    gossip = ours.transport._serving.gossip
    await happens(lambda: peer_from_text(js.peer) in gossip.router.mesh(TOPIC))


async def publish(js: JsPeer, **signed: object) -> str:
    """The js peer makes a statement, and says it to everyone; its bytes."""
    data = (await js.do("sign", network=NETWORK, kind="offer", **signed))["data"]
    await js.do("gossip", publish={"topic": TOPIC, "data": data})
    return str(data)


async def test_messages_are_counted_acknowledged_and_heard_once(ours: Node, js: JsPeer) -> None:
    address = await join(js, ours)
    peer = peer_from_text(js.peer)
    hello = ours.transport.hello_of(peer)
    assert hello is not None and hello.software == "shoal-js" and hello.observed.startswith("/ip4/127.0.0.1/tcp/")
    for number in (1, 2, 3):
        ours.transport.send_nowait(peer, Decline(number.to_bytes(32, "big"), "no"))
        heard = await js.event("message")
        assert heard["number"] == number
        assert heard["message"] == {"type": "decline", "op": f"{number:064x}", "code": "no"}
    link = ours.transport._serving.sessions.links.to(peer)
    await happens(lambda: link.outbox.unacknowledged == 0)
    for number in (1, 2):
        assert (await js.do("tell", peer=address, message=decline(number)))["number"] == number
        assert await received(ours, Received) == Received(peer, Decline(number.to_bytes(32, "big"), "no"))
    await js.do("resume", peer=address, first=2)
    for number in (2, 3):
        assert (await js.do("tell", peer=address, message=decline(number)))["number"] == number
    assert await received(ours, Received) == Received(peer, Decline(bytes(31) + b"\3", "no")), "the second only once"
    await happens(lambda: ours.count("messages_repeated") == 1)
    with trio.fail_after(SECONDS):
        while (await js.event("ack"))["count"] != 3:
            pass


async def test_what_was_not_acknowledged_is_said_again_after_a_new_connection(ours: Node, js: JsPeer) -> None:
    address = await join(js, ours, silent=True)
    peer = peer_from_text(js.peer)
    for number in (1, 2, 3):
        ours.transport.send_nowait(peer, Decline(number.to_bytes(32, "big"), "no"))
        assert (await js.event("message"))["number"] == number
    await js.do("hangup", peer=address)
    await happens(lambda: peer not in ours.transport.connected())
    await join(js, ours)
    link = ours.transport._serving.sessions.links.to(peer)
    await happens(lambda: link.outbox.unacknowledged == 0)
    ours.transport.send_nowait(peer, Decline(bytes(32), "no"))
    assert (await js.event("message"))["number"] == 4, "the first three were counted again, and not heard again"


async def test_a_message_with_another_order_of_fields_ends_the_session(ours: Node, js: JsPeer) -> None:
    address = await join(js, ours)
    await js.do("tell", peer=address, message={"type": "decline", "code": "no", "op": "0x" + "00" * 32})
    assert await received(ours, PeerDown) == PeerDown(peer_from_text(js.peer))
    assert ours.count("violations") == 1


async def test_an_offer_made_in_javascript_is_a_statement_here(ours: Node, js: JsPeer) -> None:
    await follow(js, ours)
    data = await publish(js, body=OFFER)
    arrived = await received(ours, Statement)
    assert isinstance(arrived, Statement) and isinstance(arrived.body, Offer)
    assert wire.encode(arrived.signed).hex() == data
    assert arrived.signed.signer == arrived.forwarder == peer_from_text(js.peer)
    assert (arrived.body.sequence, arrived.body.capability.gpus[0].gemm_gflops) == (70_000, 255)


async def test_our_offer_verifies_in_javascript(ours: Node, js: JsPeer) -> None:
    await follow(js, ours)
    signed = statement(ours.identity, 7, runtimes=2)
    await ours.transport.publish("offers", signed)
    data = (await js.event("gossip"))["data"]
    assert data == wire.encode(signed).hex()
    said = await js.do("verify", network=NETWORK, kind="offer", data=data)
    body = said["body"]
    assert isinstance(body, dict)
    assert (said["sound"], said["signer"], body["sequence"]) == (True, ours.peer.hex(), 7)
    for wrong in ({"network": "other"}, {"kind": "notice"}):
        how = {"network": NETWORK, "kind": "offer"} | wrong
        assert (await js.do("verify", data=data, **how))["sound"] is False


@pytest.mark.parametrize(
    "how",
    [
        {"body": OFFER, "spoil": True},
        {"body": OFFER | {"slots": 257}},
        {"body": OFFER | {"extra": 1}},
        {"body": {"type": "offer"} | dict(reversed(OFFER.items()))},
    ],
    ids=["signature", "bounds", "unknown field", "order"],
)
async def test_a_wrong_statement_costs_its_forwarder_the_mesh(ours: Node, js: JsPeer, how: dict[str, object]) -> None:
    await follow(js, ours)
    peer: PeerId = peer_from_text(js.peer)
    router = ours.transport._serving.gossip.router
    assert router.scores.value(peer, now()) >= 0
    await publish(js, **how)
    await happens(lambda: ours.count("violations") == 1)
    assert router.scores.value(peer, now()) < 0
    assert peer not in router.mesh(TOPIC)
    assert ours.count("statements_received") == 0
