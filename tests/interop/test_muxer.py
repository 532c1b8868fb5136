"""js-libp2p and our host: who dials, who says what of himself, bytes both ways over both muxers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from libp2p.abc import IHost, INetStream
from libp2p.host.ping import PingService
from libp2p.network.swarm import Swarm
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import listen, make_host, protocol_id
from node.mux.connection import Connection
from protocol.identity import Identity
from protocol.units import MIB
from tests.interop.js_peer import JsPeer
from tests.node.mux.muxed_hosts import echo, read_exactly
from tests.node.waiting import SECONDS, happens

ANY = "/ip4/127.0.0.1/tcp/0"
ECHO = "/shoal-interop/echo/1"
SOURCE = "/shoal-interop/source/1"


@pytest.fixture
async def host() -> AsyncIterator[IHost]:
    """One of ours, with the echo that peer.mjs knows."""
    async with AsyncExitStack() as stack:
        found = make_host(Identity(os.urandom(32)), [ANY], os.urandom(32))
        stack.push_async_callback(libp2p_patches.close_listeners, found)
        await listen(found, [ANY], stack)
        found.set_stream_handler(protocol_id(ECHO), echo)
        yield found


async def dial(host: IHost, js: JsPeer) -> None:
    """We connect to it."""
    with trio.fail_after(SECONDS):
        await host.connect(info_from_p2p_addr(Multiaddr(js.addresses[0])))


def uses_our_muxer(host: IHost) -> bool:
    """Whether every connection does."""
    network = host.get_network()
    assert isinstance(network, Swarm)
    found = [each for several in network.connections.values() for each in several]
    return bool(found) and all(isinstance(each.muxed_conn, Connection) for each in found)


async def test_js_dials_identifies_and_pings(host: IHost, js: JsPeer) -> None:
    ours = str(host.get_addrs()[0])
    dialled = await js.do("dial", peer=ours)
    assert dialled["peer"] == host.get_id().to_base58()
    assert dialled["muxer"] == "/yamux/1.0.0"
    await happens(lambda: uses_our_muxer(host))  # The dialler knows a moment earlier.
    said = await js.do("identify", peer=ours)
    protocols = said["protocols"]
    assert isinstance(protocols, list)
    assert {"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", ECHO} <= set(protocols)
    round_trip = await js.do("ping", peer=ours)
    assert float(str(round_trip["ms"])) >= 0


async def test_we_dial_identify_and_ping(host: IHost, js: JsPeer) -> None:
    await dial(host, js)
    assert uses_our_muxer(host)
    info = info_from_p2p_addr(Multiaddr(js.addresses[0]))
    with trio.fail_after(SECONDS):
        while "/ipfs/ping/1.0.0" not in host.get_peerstore().get_protocols(info.peer_id):
            await trio.testing.wait_all_tasks_blocked(0.02)  # identify comes by itself
        assert len(await PingService(host).ping(info.peer_id, 3)) == 3


async def test_js_sends_ten_megabytes_and_gets_them_back(host: IHost, js: JsPeer) -> None:
    assert (await js.do("echo", peer=str(host.get_addrs()[0]), size=10 * MIB))["same"] is True


async def test_we_send_ten_megabytes_and_get_them_back(host: IHost, js: JsPeer) -> None:
    await dial(host, js)
    data = os.urandom(MIB) * 10
    stream = await open_to(host, js, ECHO)
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.write, data)
            assert await read_exactly(stream, len(data)) == data
    await stream.close()


async def test_js_is_slowed_down_by_a_reader_that_pauses(host: IHost, js: JsPeer) -> None:
    await dial(host, js)
    stream = await open_to(host, js, SOURCE)
    await stream.write((20 * MIB).to_bytes(8, "big"))
    connection = stream.muxed_conn
    assert isinstance(connection, Connection)
    await happens(lambda: connection.session.places.buffered > 0)
    await trio.testing.wait_all_tasks_blocked(0.3)
    assert connection.session.places.buffered <= MIB
    with trio.fail_after(SECONDS):
        assert len(await read_exactly(stream, 20 * MIB)) == 20 * MIB
        with pytest.raises(EOFError):
            await stream.read(1)


async def test_frames_there_and_back(host: IHost, js: JsPeer) -> None:
    async def shout(stream: INetStream) -> None:
        for _ in range(2):
            length = await read_exactly(stream, 4)
            body = await read_exactly(stream, int.from_bytes(length, "big"))
            await stream.write(length + body.upper())
        await stream.close()

    host.set_stream_handler(protocol_id("/test/shout/1"), shout)
    frames = [b"one".hex(), b"two".hex()]
    ours = str(host.get_addrs()[0])
    answer = await js.do("request", peer=ours, protocol="/test/shout/1", frames=frames, answers=2)
    assert answer["frames"] == [b"ONE".hex(), b"TWO".hex()]
    await js.do("answer", protocol="/test/js/1", frame=b"from js".hex())
    stream = await open_to(host, js, "/test/js/1")
    await stream.write(b"\0\0\0\2hi")
    assert await read_exactly(stream, 11) == b"\0\0\0\7from js"
    assert (await js.event("asked"))["frame"] == b"hi".hex()
    whole = await js.do("exchange", peer=ours, protocol=ECHO, data=b"all of it".hex())
    assert whole["data"] == b"all of it".hex()


async def open_to(host: IHost, js: JsPeer, protocol: str) -> INetStream:
    """A stream to the js peer."""
    with trio.fail_after(SECONDS):
        if not host.get_network().connections:
            await dial(host, js)
        return await host.new_stream(info_from_p2p_addr(Multiaddr(js.addresses[0])).peer_id, [protocol_id(protocol)])
