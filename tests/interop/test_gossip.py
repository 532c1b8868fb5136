"""Our router and js-libp2p's gossipsub in one mesh: statements go both ways, and IHAVE names them alike."""

from __future__ import annotations

import pytest
import trio

from node.gossip import now
from protocol import wire
from protocol.gossip import rpc as rpcs
from protocol.gossip.effects import Rank
from protocol.gossip.router import message_id
from protocol.gossip.rpc import Rpc
from protocol.identity import Identity, peer_from_text, peer_text
from tests.interop.js_peer import JsPeer, install, js_peer
from tests.node.test_gossip import TOPIC, Speaker, speaking, statement
from tests.node.waiting import SECONDS, happens


@pytest.fixture(autouse=True)
def _installed() -> None:
    install()


async def meet(ours: Speaker, js: JsPeer) -> None:
    """The js peer dials ours; both get into the other's mesh."""
    await js.do("gossip", subscribe=TOPIC)
    await js.do("dial", peer=f"{ours.host.get_addrs()[0]}".split("/p2p/")[0] + f"/p2p/{peer_text(ours.peer)}")
    await happens(lambda: peer_from_text(js.peer) in ours.gossip.router.mesh(TOPIC))
    with trio.fail_after(SECONDS):
        while peer_text(ours.peer) not in str((await js.do("gossip", topic=TOPIC))["mesh"]):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_statements_go_both_ways() -> None:
    async with speaking("a") as (ours,), js_peer() as js:
        await meet(ours, js)
        signed = await ours.say(1)
        said = await js.event("gossip")
        assert said["topic"] == TOPIC and said["data"] == wire.encode(signed).hex()
        author = Identity(b"j" * 32)
        theirs = statement(author, 5)
        answer = await js.do("gossip", publish={"topic": TOPIC, "data": wire.encode(theirs).hex()})
        assert answer["sent"] == [peer_text(ours.peer)]
        heard = (await ours.hears(2))[1]
        assert heard.signed == theirs and heard.forwarder == peer_from_text(js.peer)
        assert ours.violations == []


async def test_what_ihave_names_is_asked_for_and_given() -> None:
    async with speaking("a") as (ours,), js_peer() as js:
        await meet(ours, js)
        data = wire.encode(statement(ours.identity, 9))
        ours.gossip.router.publish(TOPIC, data, now())  # Kept, and sent to nobody.
        ihave = Rpc(ihave=((TOPIC, (message_id(TOPIC, data),)),))
        ours.gossip.streams.send(peer_from_text(js.peer), rpcs.frame(ihave), Rank.CONTROL)
        assert (await js.event("gossip"))["data"] == data.hex()


async def test_what_is_invalid_goes_no_further_and_a_signed_envelope_neither() -> None:
    async with speaking("a", "b") as (ours, other), js_peer(gossip={"sign": True}) as js:
        await js.do("gossip", subscribe=TOPIC)
        await js.do("dial", peer=f"{ours.host.get_addrs()[0]}".split("/p2p/")[0] + f"/p2p/{peer_text(ours.peer)}")
        await happens(lambda: peer_from_text(js.peer) in ours.gossip.router.mesh(TOPIC))
        data = wire.encode(statement(other.identity, 1))
        await js.do("gossip", publish={"topic": TOPIC, "data": data.hex()})
        await happens(lambda: bool(ours.violations))
        assert ours.violations[0].code == "signed_envelope" and ours.heard == []
