"""The same connection on each carrier: a TCP socket, Noise on something else, and a secured connection as it is."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
from libp2p.abc import ISecureConn
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamReset
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from node.mux import connection as connections
from node.mux.carriers import Carrier, RecordCarrier, SecuredCarrier, SocketCarrier, carrier_for
from protocol.overlay.noise_records import Opener, Sealer
from protocol.units import MIB, PeerId
from tests.node.mux.muxed_hosts import connection_of, muxed, read_exactly, two_hosts
from tests.node.waiting import SECONDS


def by_records(secured: ISecureConn, peer: PeerId) -> Carrier:
    """As through a relay: Noise on a connection that is no socket."""
    assert isinstance(secured, SecureSession)
    noise = secured.conn
    assert isinstance(noise, NoiseTransportReadWriter)
    states = noise.noise_state.noise_protocol
    ours, theirs = states.cipher_state_encrypt, states.cipher_state_decrypt
    raw = noise.read_writer.read_write_closer
    return RecordCarrier(raw, Sealer(ours.k, ours.n), Opener(peer, theirs.k, theirs.n), secured._drain(None))


def by_secured(secured: ISecureConn, peer: PeerId) -> Carrier:
    """Whatever it is."""
    return SecuredCarrier(secured)


CARRIERS = [(carrier_for, SocketCarrier), (by_records, RecordCarrier), (by_secured, SecuredCarrier)]


@pytest.mark.parametrize(("choose", "kind"), CARRIERS, ids=["socket", "records", "secured"])
async def test_each_carries(
    choose: Callable[[ISecureConn, PeerId], Carrier], kind: type[Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "carrier_for", choose)
    data = os.urandom(2 * MIB)
    with trio.fail_after(SECONDS):
        async with two_hosts() as two:
            assert isinstance(connection_of(two.one, two.two)._carrier, kind)
            stream = await two.stream()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, data)
                assert await read_exactly(stream, len(data)) == data
            theirs = connection_of(two.two, two.one)
            await connection_of(two.one, two.two).close()
            await theirs.event_closed.wait()


@pytest.mark.parametrize("choose", [carrier_for, by_records], ids=["socket", "records"])
async def test_a_forged_message_ends_the_connection(
    choose: Callable[[ISecureConn, PeerId], Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "carrier_for", choose)
    async with two_hosts() as two:
        stream = await two.stream()
        ours, theirs = connection_of(two.one, two.two), connection_of(two.two, two.one)
        secured = ours.secured_conn
        assert isinstance(secured, SecureSession)
        assert isinstance(secured.conn, NoiseTransportReadWriter)
        await secured.conn.read_writer.read_write_closer.write(b"\0\x20" + bytes(32))
        with trio.fail_after(SECONDS):
            await theirs.event_closed.wait()
            assert theirs.violation is not None
            assert theirs.violation.code == "noise_forged"
            with pytest.raises(StreamReset):
                await stream.read(1)


async def test_a_lost_socket_ends_the_connection() -> None:
    async with two_hosts() as two:
        stream = await two.stream()
        ours = connection_of(two.one, two.two)
        secured = ours.secured_conn
        assert isinstance(secured, SecureSession)
        assert isinstance(secured.conn, NoiseTransportReadWriter)
        raw = secured.conn.read_writer.read_write_closer
        assert isinstance(raw, RawConnection)
        assert isinstance(raw.stream, TrioTCPStream)
        await raw.stream.stream.aclose()
        with trio.fail_after(SECONDS):
            await ours.event_closed.wait()
            with pytest.raises(StreamReset):
                await stream.write(b"x")
        assert muxed(stream).is_closed
        assert ours.violation is None
