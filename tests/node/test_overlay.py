"""What a node tells others about itself, and what it makes of what they say: real transports on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from libp2p.abc import IHost

from node import libp2p_patches
from node.blobs import BlobStore
from node.overlay import RELAY, Overlay
from node.transport import Transport, TransportConfig
from protocol.identity import Identity
from protocol.overlay.own_record import MEMBERS
from protocol.units import GIB
from tests.node.waiting import SECONDS, happens

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
LISTEN = ("/ip4/127.0.0.1/tcp/0",)
PUBLIC = "/ip4/11.22.33.44/tcp/4301"


def transport(
    folder: Path, identity: Identity = ALICE, announce: tuple[str, ...] = (), relays: bool = True
) -> Transport:
    config = TransportConfig(LISTEN, announce, neighbours_min=0, relays=relays, region="eu-west")
    return Transport(identity, "reef", config, BlobStore(folder, GIB))


@asynccontextmanager
async def opened(node: Transport) -> AsyncIterator[Overlay]:
    async with node.serving():
        assert node.overlay is not None
        yield node.overlay


async def test_a_node_on_loopback_says_so_and_offers_nothing_to_strangers(tmp_path: Path) -> None:
    async with opened(transport(tmp_path)) as overlay:
        assert [text.split("/")[2] for text in overlay.addresses()] == ["127.0.0.1"]
        assert not overlay.is_public
        assert overlay.capabilities == ("bulk/1", "nat/unknown")
        profile = overlay.profile()
        assert profile.topics == (MEMBERS,)
        assert profile.place.region == "eu-west"


async def test_an_announced_address_comes_first_and_makes_a_relay(tmp_path: Path) -> None:
    async with opened(transport(tmp_path, announce=(PUBLIC,))) as overlay:
        assert overlay.addresses()[0] == PUBLIC
        assert overlay.is_public
        assert RELAY in overlay.capabilities
        assert overlay.profile().topics == (MEMBERS, RELAY)
    async with opened(transport(tmp_path, announce=(PUBLIC,), relays=False)) as overlay:
        assert overlay.is_public
        assert RELAY not in overlay.capabilities


async def test_who_can_relay_is_greeted_again_when_that_changes(tmp_path: Path) -> None:
    alice, bob = transport(tmp_path / "a"), transport(tmp_path / "b", BOB)
    async with opened(alice) as overlay, opened(bob):
        alice.learn(BOB.peer, bob.addresses())
        await alice._serving.dialer.connect(BOB.peer)
        await happens(lambda: bob.hello_of(ALICE.peer) is not None)
        overlay._said = type(overlay._said)(announce=(PUBLIC,), listen_port=overlay._said.listen_port)

        def is_told() -> bool:
            hello = bob.hello_of(ALICE.peer)
            return hello is not None and RELAY in hello.capabilities

        await happens(is_told)


async def test_who_reads_the_listeners_ends_before_they_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed one has no address: a node that was asked to end would end with an error, if it looked meanwhile."""
    monkeypatch.setattr("node.overlay.LOOK_S", 0.0)
    monkeypatch.setattr("node.overlay.LISTENING_S", 0.0)
    close = libp2p_patches.close_listeners

    async def slowly(host: IHost) -> None:
        await close(host)
        await turns()

    monkeypatch.setattr(libp2p_patches, "close_listeners", slowly)
    async with opened(transport(tmp_path)):
        await turns()


async def turns() -> None:
    """Everybody who can do something does."""
    for _ in range(20):
        await trio.lowlevel.checkpoint()


async def test_another_node_with_our_key_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = transport(tmp_path / "one"), transport(tmp_path / "two")
    async with opened(one) as overlay, opened(two):
        two._serving.dialer.book.learn(ALICE.peer, one.addresses())
        with trio.move_on_after(SECONDS):
            await two._serving.dialer.dial_direct(ALICE.peer, two._serving.dialer.book.of(ALICE.peer))
        await happens(lambda: overlay.outlook.status()["twins"] != [])
    assert "another node uses this node's key" in caplog.text
