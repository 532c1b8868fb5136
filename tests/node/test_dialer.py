"""Dialling real hosts: dead, silent and lying addresses in front of a good one, and relays behind."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.addresses import AddressBook, is_usable, split_circuit, without_target
from node.blobs import BlobStore
from node.dialer import PeerPath, relay_of
from node.transport import Transport, TransportConfig
from protocol.errors import Unavailable
from protocol.identity import Identity, peer_text
from protocol.units import GIB, PeerId
from tests.node.silent_port import SilentPort, free_port
from tests.node.waiting import SECONDS, happens

ALICE, BOB, CAROL = Identity(b"a" * 32), Identity(b"b" * 32), Identity(b"c" * 32)
CONFIG = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
CIRCUIT = f"/ip4/127.0.0.1/tcp/9/p2p/{peer_text(CAROL.peer)}/p2p-circuit"


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Transport, Transport]]:
    """Alice, who knows nobody, and Bob."""
    alice = Transport(ALICE, "reef", CONFIG, BlobStore(folder / "a", GIB))
    bob = Transport(BOB, "reef", CONFIG, BlobStore(folder / "b", GIB))
    async with alice.serving(), bob.serving():
        yield alice, bob


def direct(transport: Transport) -> str:
    return without_target(transport.addresses()[0])


async def test_a_dead_and_a_silent_address_cost_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.dialer.DIAL_S", 2 * SECONDS)
    async with two(tmp_path) as (alice, bob):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            alice.learn(
                BOB.peer, ["/ip4/127.0.0.1/tcp/9", f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}", direct(bob)]
            )
            with trio.fail_after(SECONDS):
                await alice._serving.dialer.connect(BOB.peer)
        assert alice._serving.dialer.paths(BOB.peer) == [PeerPath("direct", direct(bob))]
        assert alice._serving.dialer.book.of(BOB.peer)[0] == direct(bob)


async def test_what_is_refused_from_the_listening_port_is_not_tried_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins to listen between the two would be connected from a port that tells nothing of our router."""
    monkeypatch.setattr("node.dialer.is_global_address", lambda address: True)
    monkeypatch.setattr("node.dialer.BESIDE_S", 0.05)
    async with two(tmp_path) as (alice, _):
        dialer = alice._serving.dialer
        with pytest.raises(Unavailable, match="Connection refused"):
            await dialer._dial_one(BOB.peer, f"/ip4/127.0.0.1/tcp/{free_port()}")
        assert dialer.dials == 1
        with ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dialer._dial_one, BOB.peer, f"/ip4/127.0.0.1/tcp/{SilentPort(stack).port}")
                await happens(lambda: dialer.dials == 3)  # Nobody answered the listening port: another may get through.
                nursery.cancel_scope.cancel()


async def test_a_node_that_ends_dials_nobody_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listeners are closed before its tasks are cancelled, and one of them may want to dial meanwhile."""

    def closed() -> list[str]:
        with socket.socket() as listener:
            pass
        return [str(listener.getsockname())]

    async with two(tmp_path) as (alice, bob):
        dialer = alice._serving.dialer
        monkeypatch.setattr(dialer._host, "get_addrs", closed)
        dialer.book.learn(BOB.peer, [direct(bob)])
        with pytest.raises(Unavailable, match="it ends"):
            await dialer.connect(BOB.peer)


async def test_an_address_of_somebody_else_is_told(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob):
        alice.learn(CAROL.peer, [direct(bob)])
        with pytest.raises(Unavailable, match="cannot be reached") as caught:
            await alice._serving.dialer.connect(CAROL.peer)
        assert direct(bob) in caught.value.detail
        assert not alice._serving.dialer.is_connected(CAROL.peer)


async def test_relays_are_asked_when_nothing_direct_works(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob):
        dialer, there = alice._serving.dialer, direct(bob)
        asked: list[tuple[PeerId, PeerId]] = []

        async def through(relay: PeerId, target: PeerId) -> None:
            asked.append((relay, target))
            alice.learn(BOB.peer, [there])
            await dialer.dial_direct(BOB.peer, (there,))

        dialer.dial_circuit = through
        alice.learn(BOB.peer, [CIRCUIT])
        await dialer.connect(BOB.peer)
        assert asked == [(CAROL.peer, BOB.peer)]
        assert dialer.book.of(CAROL.peer) == ("/ip4/127.0.0.1/tcp/9",)


async def test_a_relay_that_fails_is_one_reason_among_others(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, _):

        async def through(relay: PeerId, target: PeerId) -> None:
            raise Unavailable("it is full", code="relay_full")

        alice._serving.dialer.dial_circuit = through
        alice.learn(BOB.peer, [CIRCUIT, "/ip4/127.0.0.1/tcp/9"])
        with pytest.raises(Unavailable) as caught:
            await alice._serving.dialer.connect(BOB.peer)
        assert "it is full" in caught.value.detail
        assert "/ip4/127.0.0.1/tcp/9" in caught.value.detail


async def test_nobody_is_looked_for_at_our_own_addresses(tmp_path: Path) -> None:
    """Private addresses of different homes read the same, and a relay knows circuits through itself."""
    async with two(tmp_path) as (alice, _):
        dialer = alice._serving.dialer
        asked: list[PeerId] = []

        async def through(relay: PeerId, target: PeerId) -> None:
            asked.append(relay)

        dialer.dial_circuit = through
        here = direct(alice)
        alice.learn(CAROL.peer, [here, f"{here}/p2p/{peer_text(ALICE.peer)}/p2p-circuit"])
        with pytest.raises(Unavailable, match="no address is known"):
            await dialer.connect(CAROL.peer)
        assert (asked, dialer.dials) == ([], 0)


def test_circuits_as_text() -> None:
    assert split_circuit(CIRCUIT) == (CAROL.peer, "/ip4/127.0.0.1/tcp/9")
    assert split_circuit("/ip4/127.0.0.1/tcp/9") is None
    assert split_circuit("/p2p-circuit") is None
    assert without_target(f"{CIRCUIT}/p2p/{peer_text(BOB.peer)}") == CIRCUIT
    assert relay_of(f"{CIRCUIT}/p2p/{peer_text(BOB.peer)}") == CAROL.peer
    assert relay_of("/ip4/127.0.0.1/tcp/9") is None
    assert is_usable(CIRCUIT)
    assert not is_usable("/ip4/0.0.0.0/tcp/9")


def test_the_book_keeps_circuits_beside_direct_addresses() -> None:
    book = AddressBook()
    book.learn(BOB.peer, [f"{CIRCUIT}/p2p/{peer_text(BOB.peer)}", "/ip4/127.0.0.1/tcp/1", "/ip4/1.2.3.4/udp/1"])
    assert book.of(BOB.peer) == (CIRCUIT, "/ip4/127.0.0.1/tcp/1")
