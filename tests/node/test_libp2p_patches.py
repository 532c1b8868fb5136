"""Each patch does what it is for, on the version it is for."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack

import pytest
import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network import swarm
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import libp2p_id, listen, make_host, only_error, peer_of, rim
from node.mux.connection import Connection
from node.mux.net_streams import lean_read, lean_write
from node.reach import half_open
from protocol.errors import LocalError, Refused, Unavailable
from protocol.identity import Identity, peer_text
from protocol.units import PeerId
from tests.node.silent_port import SilentPort, free_port
from tests.node.waiting import SECONDS

ALICE = Identity(b"a" * 32)
BOB = Identity(b"b" * 32)


@pytest.fixture(autouse=True)
def installed() -> None:
    libp2p_patches.install()
    libp2p_patches.install()


def test_another_version_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9.0")
    monkeypatch.setattr(yamux, "MAX_MESSAGE_SIZE", 65_536)
    with pytest.raises(LocalError, match=r"libp2p 0\.9\.0 is installed, the patches are for 0\.8\.1"):
        libp2p_patches.install()
    assert yamux.MAX_MESSAGE_SIZE == 65_536


def test_constants() -> None:
    assert swarm._HAPPY_EYEBALLS_DELAY == 0.0
    assert yamux.MAX_MESSAGE_SIZE == 65_519
    assert os.environ["PY_YAMUX_RELEASE_ON_READ"] == "0"
    assert logging.getLogger("libp2p.network.auto_connector").getEffectiveLevel() == logging.CRITICAL


async def test_every_tcp_stream_notices_silence() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        wrapped = TrioTCPStream(stream)
        sock = wrapped.stream.socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == libp2p_patches.SILENCE_MS
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await wrapped.close()


async def test_a_listener_owns_its_port_and_is_closed_at_the_end() -> None:
    host = make_host(ALICE, ["/ip4/127.0.0.1/tcp/0"], bytes(32))
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        port = int(str(host.get_addrs()[0]).split("/")[4])
        other = make_host(BOB, [], bytes(32))
        async with AsyncExitStack() as stack:
            with pytest.raises(Unavailable, match="Address already in use") as caught:
                await listen(other, [f"/ip4/127.0.0.1/tcp/{port}"], stack)
        assert caught.value.code == "address_in_use"
    await libp2p_patches.close_listeners(host)
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_the_auto_connector_stays_off() -> None:
    host = make_host(ALICE, ["/ip4/127.0.0.1/tcp/0"], bytes(32))
    network = host.get_network()
    assert isinstance(network, swarm.Swarm)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        connector = network.auto_connector
        assert isinstance(connector, AutoConnector)
        assert not connector._started
        assert network.retry_config.max_retries == 0
    await libp2p_patches.close_listeners(host)


def test_a_failure_is_forgotten() -> None:
    host = make_host(ALICE, ["/ip4/127.0.0.1/tcp/0"], bytes(32))
    network = host.get_network()
    assert isinstance(network, swarm.Swarm)
    name = libp2p_id(Identity(b"b" * 32).peer)
    network._negative_peer_cache.mark_failed(str(name))
    libp2p_patches.forget_failure(host, name)
    assert not network._negative_peer_cache.is_blocked(str(name))


def test_the_host_has_the_identity_s_name() -> None:
    host = make_host(ALICE, ["/ip4/127.0.0.1/tcp/0"], bytes(32))
    assert str(host.get_id()) == peer_text(ALICE.peer)
    assert peer_of(host.get_id()) == ALICE.peer == peer_of(libp2p_id(PeerId(ALICE.peer)))


def test_the_rim_names_the_innermost_cause() -> None:
    def fail() -> None:
        try:
            raise OSError("connection refused")
        except OSError as error:
            raise ValueError("something failed") from error

    with pytest.raises(Unavailable, match="dial: OSError: connection refused"), rim("dial"):
        fail()
    with pytest.raises(Refused, match="ours"), rim("dial"):
        raise Refused("ours")
    with pytest.raises(Unavailable, match="dial: KeyError: 'x'"), rim("dial"):
        raise ExceptionGroup("several", [KeyError("x"), OSError("y")])


def test_only_error_unwraps_one() -> None:
    one, two = Refused("one"), Refused("two")
    assert only_error(ExceptionGroup("outer", [ExceptionGroup("inner", [one])])) is one
    both = ExceptionGroup("both", [one, two])
    assert only_error(both) is both


async def test_a_stream_is_opened_on_a_connection_and_dials_nobody() -> None:
    async with AsyncExitStack() as stack:
        alice, bob = (make_host(one, ["/ip4/127.0.0.1/tcp/0"], bytes(32)) for one in (ALICE, BOB))
        for host in (alice, bob):
            await listen(host, ["/ip4/127.0.0.1/tcp/0"], stack)
        alice.get_peerstore().add_addrs(bob.get_id(), bob.get_addrs(), 60)
        with pytest.raises(SwarmException, match="not connected"):
            await alice.get_network().new_stream(bob.get_id())
        assert not bob.get_network().get_connections(alice.get_id())
        await alice.get_network().dial_peer(bob.get_id())
        await alice.get_network().new_stream(bob.get_id())


async def test_a_cancelled_dial_from_a_port_is_kept_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "ANSWERED_S", SECONDS)
    with ExitStack() as stack:
        silent = SilentPort(stack)
        target, source = Multiaddr(f"/ip4/127.0.0.1/tcp/{silent.port}"), ("127.0.0.1", free_port())
        with trio.move_on_after(0.05) as deadline:
            await TCP().dial_with_source(target, source)
        assert deadline.cancelled_caught
        async with await silent.wake().accept() as other:
            connection = await TCP().dial_with_source(target, source)
            await connection.write(b"here")
            assert (other.socket.getpeername(), await other.receive_some(4)) == (source, b"here")
            await connection.close()


async def test_a_dial_from_a_port_that_fails_says_from_where() -> None:
    with pytest.raises(OpenConnectionError, match=r"127\.0\.0\.1:9 from port 0"):
        await TCP().dial_with_source(Multiaddr("/ip4/127.0.0.1/tcp/9"), ("0.0.0.0", 0))


def test_our_muxer_is_installed() -> None:
    assert vars(muxer_multistream)["Yamux"] is Connection
    assert NetStream.read is lean_read
    assert NetStream.write is lean_write


def test_the_stock_muxer_stays_when_asked_for() -> None:
    code = (
        "from node import libp2p_patches; libp2p_patches.install()\n"
        "from libp2p.network.stream.net_stream import NetStream\n"
        "from libp2p.stream_muxer import muxer_multistream\n"
        "print(muxer_multistream.Yamux.__module__, NetStream.read.__module__)"
    )
    environment = os.environ | {libp2p_patches.MUXER_VARIABLE: libp2p_patches.STOCK_MUXER}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["libp2p.stream_muxer.yamux.yamux", "libp2p.network.stream.net_stream"]
