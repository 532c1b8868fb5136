"""A circuit as libp2p sees it: a raw connection, on which Noise and the muxer run from end to end.

The relay between the two ends sees encrypted bytes and can only delay, drop or end them. Spec: specs/20-relays.md.
"""

from __future__ import annotations

import trio
from libp2p.abc import IHost, INetConn, INetStream, IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from multiaddr import Multiaddr

from node.libp2p_rim import HANDSHAKE_S, libp2p_id, protocol_id, rim
from node.reach.circuit_messages import MULTISTREAM
from node.streams import read_some, reset
from protocol.errors import LocalError, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.units import PeerId


class RelayedConnection(IRawConnection):
    """One end of a circuit. `early` came behind the relay's last message; `circuit` ends with `/p2p-circuit`."""

    def __init__(self, stream: INetStream, early: bytes, circuit: str, *, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self.circuit = circuit
        self._stream = stream
        self._buffer = bytearray(early)
        self._is_closed = False

    async def read(self, n: int | None = None) -> bytes:
        """At most `n` bytes, as soon as there are any; empty at the end."""
        while not self._buffer and not self._is_closed:
            try:
                piece = await read_some(self._stream)
            except Unavailable as error:
                raise RawConnError(error.detail) from error
            if not piece:
                return b""
            self._buffer += piece
        size = len(self._buffer) if n is None or n < 0 else n
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        return piece

    async def write(self, data: bytes) -> None:
        """Everything, in order; waits while the relay or the other end cannot take more."""
        try:
            with rim("write to a circuit"):
                await self._stream.write(data)
        except Unavailable as error:
            raise RawConnError(error.detail) from error

    async def close(self) -> None:
        """End the circuit; what was written before still arrives."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            with rim("close a circuit"):
                await self._stream.close()
        except Unavailable:
            await reset(self._stream)

    async def abort(self) -> None:
        """Give the circuit up."""
        self._is_closed = True
        await reset(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """None: the relay's address is not the peer's, and would be mistaken for it."""
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The circuit."""
        return [Multiaddr(self.circuit)]

    def get_connection_type(self) -> ConnectionType:
        """Relayed, so that every direct connection is preferred."""
        return ConnectionType.RELAYED


async def upgrade_outbound(host: IHost, circuit: RelayedConnection, target: PeerId) -> None:
    """Noise and muxer on a circuit that we dialled; then the target is connected. Unavailable when that fails."""
    try:
        with rim(f"upgrade {circuit.circuit} to {peer_text(target)}"), trio.fail_after(HANDSHAKE_S):
            await swarm_of(host).upgrade_outbound_raw_conn(circuit, libp2p_id(target))
    except BaseException:
        await circuit.abort()
        raise


async def upgrade_inbound(host: IHost, circuit: RelayedConnection, source: PeerId, relay: PeerId) -> None:
    """The same on a circuit that a relay brought. RemoteViolation of the relay when it named another source."""
    try:
        with rim(f"upgrade {circuit.circuit} from {peer_text(source)}"), trio.fail_after(HANDSHAKE_S):
            muxed = await swarm_of(host).upgrade_inbound_raw_conn(circuit, Multiaddr(circuit.circuit))
            if muxed.peer_id != libp2p_id(source):
                raise RemoteViolation(relay, "it named another source than the one that came", code="relay_lied")
    except BaseException:
        await circuit.abort()
        raise


async def open_eagerly(host: IHost, peer: PeerId, protocol: str) -> INetStream:
    """A stream on a connection that is there; the protocol is proposed without waiting, which saves two round trips.

    The answer comes in front of the first message: `MessageReader(…, proposed=protocol)` expects it."""
    with rim(f"open {protocol} to {peer_text(peer)}"), trio.fail_after(HANDSHAKE_S):
        stream = await swarm_of(host).new_stream(libp2p_id(peer))
        stream.set_protocol(protocol_id(protocol))
        await stream.write(b"".join(bytes([len(line) + 1]) + line + b"\n" for line in (MULTISTREAM, protocol.encode())))
    return stream


async def open_directly(host: IHost, peer: PeerId, protocol: str) -> INetStream:
    """The same on a direct connection. Unavailable where there is none."""
    if not is_connected_directly(host, peer):
        raise Unavailable(f"{peer_text(peer)} is not connected directly", code="not_direct")
    stream = await open_eagerly(host, peer, protocol)
    if is_relayed(stream):
        await reset(stream)
        raise Unavailable(f"{peer_text(peer)} is not connected directly any more", code="not_direct")
    return stream


async def finish(stream: INetStream) -> None:
    """Nothing more is written; what was written arrives, and the other direction goes on. Unavailable when it broke."""
    with rim("finish a stream"):
        if isinstance(stream, NetStream):
            await stream.close_write()
        else:
            await stream.close()


def connections(host: IHost, peer: PeerId, kind: ConnectionType) -> list[INetConn]:
    """The open connections to a peer of one kind."""
    with rim("connections"):
        return [
            connection
            for connection in host.get_network().get_connections(libp2p_id(peer))
            if connection.get_connection_type() == kind
        ]


def is_connected_directly(host: IHost, peer: PeerId) -> bool:
    """True when a connection without a relay is open."""
    return bool(connections(host, peer, ConnectionType.DIRECT))


def is_relayed(stream: INetStream) -> bool:
    """True for a stream whose connection goes through a relay."""
    return stream.muxed_conn.get_connection_type() == ConnectionType.RELAYED


def swarm_of(host: IHost) -> Swarm:
    """The network of a host, with what libp2p's interface does not name."""
    network = host.get_network()
    if not isinstance(network, Swarm):
        raise LocalError(f"libp2p's network is a {type(network).__name__}, not a Swarm", code="libp2p_version")
    return network
