"""A relay of real hosts: it serves, it refuses, it cuts where its budget says, and it is never held up."""

from __future__ import annotations

import pytest
import trio
from libp2p.abc import INetStream

from node.libp2p_rim import libp2p_id, protocol_id
from node.reach.circuit_messages import HOP_PROTOCOL, STOP_PROTOCOL, MessageReader, Status, ask_to_reserve, say_punch
from node.reach.relayed_connection import open_directly
from node.streams import write_all
from protocol.errors import Refused, Unavailable
from protocol.overlay.punch import Sync
from protocol.overlay.relay_budget import RelayLimits
from protocol.units import MIB, SECOND, Micros
from tests.node.reach.relay_hosts import Node, nodes
from tests.node.waiting import SECONDS, until

FAST = RelayLimits(circuit_rate=1 << 30, total_rate=1 << 30)


async def joined(relay: Node, *others: Node) -> None:
    """Everybody is connected to the relay, and has a place there."""
    for other in others:
        other.knows(relay)
        await other.client.reserve(relay.peer)


async def test_two_peers_talk_through_a_relay() -> None:
    async with nodes(3) as (relay, alice, bob):
        server = relay.relays(FAST)
        await joined(relay, bob)
        alice.knows(relay)
        await alice.client.dial(relay.peer, bob.peer)
        assert alice.kinds(bob.peer) == ["relayed"]
        assert await until(lambda: bob.kinds(alice.peer) == ["relayed"], SECONDS)
        data = bytes(range(256)) * 4096
        assert await alice.echoed(bob.peer, data) == data
        assert (server.status.reservations, server.status.circuits) == (1, 1)
        assert 2 * len(data) < server.status.bytes_passed < 2.1 * len(data)
        (connection,) = alice.host.get_network().get_connections(libp2p_id(bob.peer))
        assert [str(one) for one in connection.get_transport_addresses()] == [
            f"{relay.address}/p2p/{libp2p_id(relay.peer)}/p2p-circuit"
        ]
        await connection.close()
        assert await until(lambda: not bob.kinds(alice.peer) and not server.status.circuits, SECONDS)


async def test_the_limits_are_told() -> None:
    async with nodes(2) as (relay, bob):
        relay.relays(
            RelayLimits(circuit_bytes=12_345, circuit_us=Micros(67 * SECOND), reservation_us=Micros(99 * SECOND))
        )
        before = bob.clock.now()
        await joined(relay, bob)
        reservation = bob.client.reserved[relay.peer]
        assert (reservation.limit.data, reservation.limit.span) == (12_345, 67 * SECOND)
        assert before + 98 * SECOND <= reservation.until <= bob.clock.now() + 99 * SECOND


async def test_refusals_say_why() -> None:
    async with nodes(4) as (relay, alice, bob, carol):
        relay.relays(RelayLimits(reservations=1, circuits_per_peer=1))
        for node in (alice, bob, carol):
            node.knows(relay)
        with pytest.raises(Refused) as none:
            await alice.client.dial(relay.peer, bob.peer)
        await bob.client.reserve(relay.peer)
        with pytest.raises(Refused) as full:
            await carol.client.reserve(relay.peer)
        await alice.client.dial(relay.peer, bob.peer)
        with pytest.raises(Refused) as busy:
            await carol.client.dial(relay.peer, bob.peer)
        relay.shut_out.add(carol.peer)
        with pytest.raises(Refused) as unwanted:
            await carol.client.reserve(relay.peer)
        assert [one.value.code for one in (none, full, busy, unwanted)] == [
            "no_reservation", "reservation_refused", "resource_limit_exceeded", "permission_denied",
        ]  # fmt: skip


async def test_no_relay_over_a_relay() -> None:
    async with nodes(3) as (relay, alice, bob):
        relay.relays()
        bob.relays()
        await joined(relay, bob)
        alice.knows(relay)
        await alice.client.dial(relay.peer, bob.peer)
        with pytest.raises(Unavailable, match="not connected directly"):
            await alice.client.reserve(bob.peer)
        stream = await alice.host.new_stream(libp2p_id(bob.peer), [protocol_id(HOP_PROTOCOL)])
        await ask_to_reserve(stream)
        assert (await MessageReader(stream, bob.peer).hop_reply()).status == Status.PERMISSION_DENIED


async def raw_circuit(relay: Node, alice: Node, bob: Node, came: bytearray, done: trio.Event) -> INetStream:
    """A circuit without libp2p on it: what Bob gets is in `came`, and `done` is set at its end."""

    async def keep(stream: INetStream) -> None:
        reader = MessageReader(stream, relay.peer)
        await reader.stop_request()
        await stream.write(bytes.fromhex("0408012064"))
        try:
            while piece := await stream.read(65_536):
                came.extend(piece)
        except EOFError:
            pass
        done.set()

    bob.serve(STOP_PROTOCOL, keep)
    circuit = await alice.client._circuit(relay.peer, bob.peer)
    return circuit._stream


async def test_a_circuit_is_cut_at_its_last_byte() -> None:
    async with nodes(3) as (relay, alice, bob):
        relay.relays(RelayLimits(circuit_bytes=300_001, circuit_rate=1 << 30, total_rate=1 << 30))
        await joined(relay, bob)
        alice.knows(relay)
        came, done = bytearray(), trio.Event()
        stream = await raw_circuit(relay, alice, bob, came, done)
        with trio.fail_after(SECONDS), pytest.raises(Unavailable):
            while True:
                await write_all(stream, b"x" * 10_000)
        with trio.fail_after(SECONDS):
            await done.wait()
        assert len(came) == 300_001
        assert relay.counts["relay_circuits_cut"] == 1


async def test_a_circuit_ends_in_time_and_is_as_fast_as_it_may_be() -> None:
    async with nodes(3) as (relay, alice, bob):
        limits = RelayLimits(circuit_us=Micros(2 * SECOND), circuit_rate=100_000, total_rate=MIB)
        server = relay.relays(limits)
        await joined(relay, bob)
        alice.knows(relay)
        came, done = bytearray(), trio.Event()
        started = trio.current_time()
        stream = await raw_circuit(relay, alice, bob, came, done)
        with trio.move_on_after(1.0):
            await write_all(stream, b"x" * 400_000)
            await done.wait()
        earned = limits.circuit_rate * (trio.current_time() - started)
        assert 0 < len(came) <= 25_000 + earned + 2 * 65_536
        assert await until(lambda: not server.status.circuits, SECONDS)
        assert 1.9 < trio.current_time() - started < SECONDS


async def test_the_relay_dies_within_a_circuit() -> None:
    async with nodes(3) as (relay, alice, bob):
        relay.relays()
        await joined(relay, bob)
        alice.knows(relay)
        await alice.client.dial(relay.peer, bob.peer)
        for name in list(relay.host.get_network().get_connections()):
            await name.close()
        assert await until(lambda: not alice.kinds(bob.peer) and not bob.kinds(alice.peer), SECONDS)


async def test_a_peer_that_left_is_not_reached() -> None:
    async with nodes(3) as (relay, alice, bob):
        server = relay.relays()
        await joined(relay, bob)
        alice.knows(relay)
        await bob.host.disconnect(libp2p_id(relay.peer))
        assert await until(lambda: server.status.reservations == 0, SECONDS)
        with pytest.raises(Refused) as none:
            await alice.client.dial(relay.peer, bob.peer)
        assert none.value.code == "no_reservation"


async def test_a_hundred_half_open_circuits_hold_nobody_up() -> None:
    async with nodes(5) as (relay, alice, carol, silent, bob):
        opening = Micros(60 * SECOND)
        limits = RelayLimits(circuits_per_peer=101, circuits_per_address=200, request_burst=200, opening_us=opening)
        server = relay.relays(limits)
        await joined(relay, silent, bob)

        async def say_nothing(stream: INetStream) -> None:
            await trio.sleep_forever()

        silent.serve(STOP_PROTOCOL, say_nothing)
        codes: list[str] = []

        async def dial(who: Node) -> None:
            try:
                await who.client._circuit(relay.peer, silent.peer)
            except Refused as error:
                codes.append(error.code)

        def is_open() -> bool:
            return server.status.circuits + len(codes) >= wanted

        for node in (alice, carol):
            node.knows(relay)
            await node.connect(relay.peer)
        async with trio.open_nursery() as nursery:
            for wanted in range(20, 101, 20):  # noqa: B007  `is_open` reads it
                for who in [alice, carol] * 10:
                    nursery.start_soon(dial, who)
                assert await until(is_open, SECONDS)
            await alice.client.dial(relay.peer, bob.peer)
            assert await alice.echoed(bob.peer, b"still") == b"still"
            assert codes == [] and server.status.circuits == 101, "all the while"
            await relay.host.disconnect(libp2p_id(silent.peer))
        assert codes == ["connection_failed"] * 100
        assert server.status.circuits == 1


async def test_a_half_open_circuit_ends_in_time() -> None:
    async with nodes(3) as (relay, alice, silent):
        server = relay.relays(RelayLimits(opening_us=Micros(SECOND // 4)))
        await joined(relay, silent)

        async def say_nothing(stream: INetStream) -> None:
            await trio.sleep_forever()

        silent.serve(STOP_PROTOCOL, say_nothing)
        alice.knows(relay)
        with pytest.raises(Refused) as late:
            await alice.client._circuit(relay.peer, silent.peer)
        assert (late.value.code, server.status.circuits) == ("connection_failed", 0)


async def test_nonsense_is_answered_and_punished() -> None:
    async with nodes(2) as (relay, alice):
        relay.relays()
        alice.knows(relay)
        await alice.connect(relay.peer)
        for nonsense in (b"\xff\xff\xff", b"\x05nonsense", b"\x02\x08\x02", b"\x04\x08\x01\x12\x00"):
            stream = await open_directly(alice.host, relay.peer, HOP_PROTOCOL)
            await stream.write(nonsense)
            assert (
                await MessageReader(stream, relay.peer, HOP_PROTOCOL).hop_reply()
            ).status == Status.MALFORMED_MESSAGE
        assert await until(lambda: len(relay.punished) == 4, SECONDS)
        assert {one.code for one in relay.punished} == {"malformed_circuit_message"}
        stream = await open_directly(alice.host, relay.peer, HOP_PROTOCOL)
        await say_punch(stream, Sync())
        await stream.reset()
        await alice.client.reserve(relay.peer)
