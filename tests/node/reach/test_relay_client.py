"""The client's side of relays, against relays that are honest, broken or hostile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from libp2p.abc import INetStream

from node.clock import Clock
from node.libp2p_rim import libp2p_id, protocol_id
from node.reach.circuit_messages import (
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    CircuitLimit,
    ConnectRequest,
    MessageReader,
    Reply,
    Status,
    announce_circuit,
    answer_hop,
)
from node.reach.relayed_connection import open_directly
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import Identity
from protocol.units import DAY, HOUR, SECOND, Micros
from tests.node.reach.relay_hosts import Node, bridge, nodes
from tests.node.waiting import SECONDS, until

Change = Callable[[bytes], bytes]
MALLORY = Identity(b"m" * 32).peer


def crooked(relay: Node, change: Change) -> Callable[[INetStream], Awaitable[None]]:
    """A relay that does everything right, except what `change` does to the bytes."""

    async def serve(stream: INetStream) -> None:
        reader = MessageReader(stream, relay.peer)
        request = await reader.hop_request()
        if not isinstance(request, ConnectRequest):
            await answer_hop(
                stream, Reply(Status.OK, CircuitLimit(), Micros(relay.clock.now() + HOUR), (relay.address,))
            )
            return
        other = await open_directly(relay.host, request.peer, STOP_PROTOCOL)
        await announce_circuit(other, relay.peer_at(stream), CircuitLimit())
        target = MessageReader(other, request.peer, STOP_PROTOCOL)
        (await target.stop_reply()).check("target")
        await answer_hop(stream, Reply(Status.OK))
        await bridge(stream, other, target.rest(), change)

    return serve


async def test_a_probe_comes_back_through_an_honest_relay() -> None:
    async with nodes(2) as (relay, bob):
        relay.relays()
        bob.knows(relay)
        await bob.client.reserve(relay.peer)
        assert await bob.client.probe(relay.peer) > 0


def drops(piece: bytes) -> bytes:
    return piece[:-1]


def changes(piece: bytes) -> bytes:
    return piece[:-1] + bytes([(piece[-1] + 1) % 256])


@pytest.mark.parametrize("change", [drops, changes])
async def test_a_relay_that_is_not_honest_is_found_out(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.reach.relay_client.PROBE_S", 0.5)
    async with nodes(2) as (relay, bob):
        relay.serve(HOP_PROTOCOL, crooked(relay, change))
        bob.knows(relay)
        await bob.client.reserve(relay.peer)
        with pytest.raises(RemoteViolation) as found:
            await bob.client.probe(relay.peer)
        assert found.value.code == "relay_drops"


async def test_a_relay_that_changes_bytes_is_suspected_and_never_believed() -> None:
    async with nodes(3) as (relay, alice, bob):
        relay.serve(HOP_PROTOCOL, crooked(relay, lambda piece: piece.replace(b"noise", b"n0ise")))
        troubled: list[bytes] = []
        for node in (alice, bob):
            node.client.troubled = troubled.append
            node.knows(relay)
        await bob.client.reserve(relay.peer)
        await alice.connect(relay.peer)
        with pytest.raises(Unavailable):
            await alice.client.dial(relay.peer, bob.peer)
        assert await until(lambda: troubled == [relay.peer] * 2, SECONDS)
        assert not alice.kinds(bob.peer) and not bob.kinds(alice.peer)


async def test_a_relay_cannot_lie_about_the_source() -> None:
    async with nodes(3) as (relay, alice, bob):

        async def serve(stream: INetStream) -> None:
            request = await MessageReader(stream, alice.peer).hop_request()
            assert isinstance(request, ConnectRequest)
            other = await open_directly(relay.host, bob.peer, STOP_PROTOCOL)
            await announce_circuit(other, MALLORY, CircuitLimit())
            target = MessageReader(other, bob.peer, STOP_PROTOCOL)
            await target.stop_reply()
            await answer_hop(stream, Reply(Status.OK))
            await bridge(stream, other, target.rest())

        relay.relays()
        for node in (alice, bob):
            node.knows(relay)
        await bob.client.reserve(relay.peer)
        relay.serve(HOP_PROTOCOL, serve)
        with suppress(Unavailable):  # Bob may hang up while Alice is still shaking hands.
            await alice.client.dial(relay.peer, bob.peer)
        assert await until(lambda: [one.code for one in bob.punished] == ["relay_lied"], SECONDS)
        assert await until(lambda: not bob.kinds(alice.peer), SECONDS)


async def test_nobody_brings_circuits_unasked() -> None:
    async with nodes(2) as (mallory, bob):
        mallory.knows(bob)
        await mallory.connect(bob.peer)
        for source in (MALLORY, bob.peer):
            stream = await open_directly(mallory.host, bob.peer, STOP_PROTOCOL)
            await announce_circuit(stream, source, CircuitLimit())
            assert (
                await MessageReader(stream, bob.peer, STOP_PROTOCOL).stop_reply()
            ).status == Status.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("span", "code"), [(0, "reservation_short"), (50, "reservation_short"), (90, ""), (1_000 * DAY // SECOND, "")]
)
async def test_reservations_of_silly_length(span: int, code: str) -> None:
    async with nodes(2) as (relay, bob):

        async def serve(stream: INetStream) -> None:
            expires = Micros(relay.clock.now() + span * SECOND)
            await answer_hop(stream, Reply(Status.OK, CircuitLimit(), expires, ("/ip4/44.1.1.1/tcp/1", relay.address)))

        relay.serve(HOP_PROTOCOL, serve)
        bob.knows(relay)
        if code:
            with pytest.raises(Unavailable) as refused:
                await bob.client.reserve(relay.peer)
            assert refused.value.code == code
            assert not bob.client.reserved
        else:
            reservation = await bob.client.reserve(relay.peer)
            assert reservation.until <= Clock().now() + 2 * HOUR + SECOND
            assert reservation.circuit == f"{relay.address}/p2p/{libp2p_id(relay.peer)}/p2p-circuit"


async def test_a_silent_relay_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.reach.relay_client.REPLY_S", 0.3)
    async with nodes(2) as (relay, bob):

        async def serve(stream: INetStream) -> None:
            await trio.sleep_forever()

        relay.serve(HOP_PROTOCOL, serve)
        bob.knows(relay)
        started = trio.current_time()
        with pytest.raises(Unavailable):
            await bob.client.reserve(relay.peer)
        with pytest.raises(Unavailable):
            await bob.client.dial(relay.peer, MALLORY)
        assert trio.current_time() - started < 20, "not the deadline of a whole dial"


async def test_a_relay_that_talks_rubbish_is_reported() -> None:
    async with nodes(2) as (relay, bob):

        async def serve(stream: INetStream) -> None:
            await stream.write(b"\x03abc")

        relay.serve(HOP_PROTOCOL, serve)
        bob.knows(relay)
        for ask in (bob.client.reserve(relay.peer), bob.client.dial(relay.peer, MALLORY), bob.client.probe(relay.peer)):
            with pytest.raises(Unavailable, match="rubbish"):
                await ask
        assert [one.code for one in bob.punished] == ["malformed_circuit_message"] * 3


async def test_a_peer_that_is_no_relay_says_so() -> None:
    async with nodes(2) as (other, bob):
        bob.knows(other)
        with pytest.raises(Unavailable):
            await bob.client.reserve(other.peer)
        other.relays()
        with pytest.raises(Refused):
            await bob.client.dial(other.peer, MALLORY)


async def test_a_stream_of_another_protocol_is_not_ours() -> None:
    async with nodes(2) as (one, other):
        one.knows(other)
        await one.connect(other.peer)
        stream = await one.host.new_stream(libp2p_id(other.peer), [protocol_id(STOP_PROTOCOL)])
        await stream.write(b"\xff\xff\x7f")
        assert await until(lambda: [one.code for one in other.punished] == ["malformed_circuit_message"], SECONDS)
