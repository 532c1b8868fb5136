"""What relays and hole punchers say: libp2p's protobuf messages of circuit relay v2 and DCUtR, as values of our own.

Each is a length (varint) and a protobuf message. Everything is bounded here: size, number of addresses, their form.
Spec: specs/20-relays.md; libp2p's relay/circuit-v2.md and relay/DCUtR.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from libp2p.abc import INetStream
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, Reservation, StopMessage
from libp2p.relay.circuit_v2.pb.circuit_pb2 import PeerId as PbPeer
from libp2p.relay.circuit_v2.pb.circuit_pb2 import Status as PbStatus
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from node.libp2p_rim import libp2p_id, peer_of, rim
from node.streams import write_all
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay import punch
from protocol.units import KIB, SECOND, Micros, PeerId

HOP_PROTOCOL: Final = "/libp2p/circuit/relay/0.2.0/hop"
"""What a client asks a relay on."""

STOP_PROTOCOL: Final = "/libp2p/circuit/relay/0.2.0/stop"
"""What a relay brings a circuit to its target on."""

DCUTR_PROTOCOL: Final = "/libp2p/dcutr"
"""What two peers arrange a hole punch on."""

MESSAGE_BYTES_MAX: Final = 4 * KIB
"""The specification's bound of all three."""

ADDRESSES_READ_MAX: Final = 16
"""Addresses that are read from one message; more are passed over."""

MULTISTREAM: Final = b"/multistream/1.0.0"
"""The first line of every negotiation of a protocol."""

LENGTH_BYTES_MAX: Final = 2
"""A varint of 4 KiB."""

T = TypeVar("T", bound=Message)


class Status(IntEnum):
    """How it went, in the words of circuit relay v2."""

    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


@dataclass(frozen=True, slots=True)
class CircuitLimit:
    """What a relay lets through one circuit. 0 means no limit."""

    span: Micros = Micros(0)
    data: int = 0


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """Let me be reached through you."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """Connect me with a peer (to a relay), or: a peer wants you (from a relay)."""

    peer: PeerId
    limit: CircuitLimit = CircuitLimit()


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to any of them. `expires` (Unix µs) and `addresses` belong to a reservation."""

    status: int
    limit: CircuitLimit = CircuitLimit()
    expires: Micros = Micros(0)
    addresses: tuple[str, ...] = ()

    def check(self, doing: str) -> None:
        """Refused with the status as its code, unless it is OK."""
        if self.status == Status.OK:
            return
        known = self.status in list(Status)
        name = Status(self.status).name.lower() if known else f"status_{self.status}"
        raise Refused(f"{doing}: the answer is {name}", code=name)


HopRequest = ReserveRequest | ConnectRequest


class MessageReader:
    """Reads messages, and knows what came behind the last one on a stream that goes on with raw bytes.

    `proposed` is the protocol of a stream that was opened eagerly: that it is accepted is said in front of the first
    message."""

    def __init__(self, stream: INetStream, sender: PeerId, proposed: str = "") -> None:
        self._stream = stream
        self._sender = sender
        self._buffer = bytearray()
        self._expected = [MULTISTREAM + b"\n", proposed.encode() + b"\n"] if proposed else []

    async def read(self) -> bytes:
        """The next message. RemoteViolation when it is too long; Unavailable when the stream ends."""
        while self._expected:
            if await self._read() != self._expected.pop(0):
                raise Unavailable(f"{peer_text(self._sender)} does not speak this protocol", code="not_spoken")
        return await self._read()

    async def _read(self) -> bytes:
        while (length := _length(self._buffer)) is None:
            if len(self._buffer) >= LENGTH_BYTES_MAX:
                raise self._bad("a message is longer than 4 KiB")
            await self._more()
        size, at = length
        if size > MESSAGE_BYTES_MAX:
            raise self._bad("a message is longer than 4 KiB")
        while len(self._buffer) < at + size:
            await self._more()
        body = bytes(self._buffer[at : at + size])
        del self._buffer[: at + size]
        return body

    def rest(self) -> bytes:
        """What was read behind the last message."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    async def hop_request(self) -> HopRequest:
        """What a client asks of a relay."""
        message = self._parse(HopMessage, await self.read())
        if message.type == HopMessage.RESERVE:
            return ReserveRequest()
        if message.type == HopMessage.CONNECT:
            return ConnectRequest(self._peer(message.peer))
        raise self._bad("a status is no request")

    async def stop_request(self) -> ConnectRequest:
        """What a relay asks of a target."""
        message = self._parse(StopMessage, await self.read())
        if message.type != StopMessage.CONNECT:
            raise self._bad("a status is no request")
        return ConnectRequest(self._peer(message.peer), _limit_of(message.limit))

    async def hop_reply(self) -> Reply:
        """What a relay answers."""
        message = self._parse(HopMessage, await self.read())
        if message.type != HopMessage.STATUS:
            raise self._bad("a request is no answer")
        addresses = _texts(message.reservation.addrs)
        expires = Micros(min(message.reservation.expire, 1 << 40) * SECOND)
        return Reply(message.status, _limit_of(message.limit), expires, addresses)

    async def stop_reply(self) -> Reply:
        """What a target answers."""
        message = self._parse(StopMessage, await self.read())
        if message.type != StopMessage.STATUS:
            raise self._bad("a request is no answer")
        return Reply(message.status)

    async def punch_message(self) -> punch.Message:
        """CONNECT or SYNC of a hole punch."""
        message = self._parse(HolePunch, await self.read())
        if message.type == HolePunch.SYNC:
            return punch.Sync()
        return punch.Connect(_texts(message.ObsAddrs))

    def _parse(self, kind: type[T], body: bytes) -> T:
        message = kind()
        try:
            message.ParseFromString(body)
        except DecodeError as error:
            raise self._bad(f"no {kind.__name__}") from error
        return message

    def _peer(self, message: PbPeer) -> PeerId:
        try:
            return peer_of(ID(message.id))
        except (Refused, ValueError) as error:
            raise self._bad("no Ed25519 peer is named") from error

    async def _piece(self) -> bytes:
        with rim("read"):
            try:
                return await self._stream.read(MESSAGE_BYTES_MAX)
            except EOFError:
                return b""

    def _bad(self, rule: str) -> RemoteViolation:
        return RemoteViolation(self._sender, rule, code="malformed_circuit_message")

    async def _more(self) -> None:
        piece = await self._piece()
        if not piece:
            raise Unavailable("the stream ended before a message was complete", code="link")
        self._buffer += piece


async def ask_to_reserve(stream: INetStream) -> None:
    """RESERVE, to a relay."""
    await _write(stream, HopMessage(type=HopMessage.RESERVE))


async def ask_for_circuit(stream: INetStream, target: PeerId) -> None:
    """CONNECT, to a relay."""
    await _write(stream, HopMessage(type=HopMessage.CONNECT, peer=_peer(target)))


async def announce_circuit(stream: INetStream, source: PeerId, limit: CircuitLimit) -> None:
    """CONNECT, from a relay to the target."""
    await _write(stream, StopMessage(type=StopMessage.CONNECT, peer=_peer(source), limit=_limit(limit)))


async def answer_hop(stream: INetStream, reply: Reply) -> None:
    """STATUS, from a relay to its client."""
    message = HopMessage(type=HopMessage.STATUS, status=PbStatus.Value(Status(reply.status).name))
    if reply.status == Status.OK:
        message.limit.CopyFrom(_limit(reply.limit))
        if reply.expires:
            addresses = [Multiaddr(text).to_bytes() for text in reply.addresses]
            message.reservation.CopyFrom(Reservation(expire=reply.expires // SECOND, addrs=addresses))
    await _write(stream, message)


async def answer_stop(stream: INetStream, status: Status) -> None:
    """STATUS, from a target to the relay."""
    await _write(stream, StopMessage(type=StopMessage.STATUS, status=PbStatus.Value(status.name)))


async def say_punch(stream: INetStream, message: punch.Message) -> None:
    """CONNECT or SYNC, to the peer at the other end of a relayed connection."""
    if isinstance(message, punch.Sync):
        await _write(stream, HolePunch(type=HolePunch.SYNC))
    else:
        addresses = [Multiaddr(text).to_bytes() for text in message.addresses[:ADDRESSES_READ_MAX]]
        await _write(stream, HolePunch(type=HolePunch.CONNECT, ObsAddrs=addresses))


async def _write(stream: INetStream, message: Message) -> None:
    body = message.SerializeToString()
    await write_all(stream, _varint(len(body)) + body)


def _varint(size: int) -> bytes:
    return bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])


def _length(buffer: bytearray) -> tuple[int, int] | None:
    """(size, bytes of the varint), or None when more is needed."""
    size = 0
    for at, byte in enumerate(buffer[:LENGTH_BYTES_MAX]):
        size |= (byte & 0x7F) << 7 * at
        if byte < 0x80:
            return size, at + 1
    return None


def _texts(raw: Iterable[bytes]) -> tuple[str, ...]:
    """Addresses as text; what is none is passed over."""
    found: list[str] = []
    for data, _ in zip(raw, range(ADDRESSES_READ_MAX), strict=False):
        try:
            found.append(str(Multiaddr(data)))
        except ValueError:
            continue
    return tuple(found)


def _peer(peer: PeerId) -> PbPeer:
    return PbPeer(id=libp2p_id(peer).to_bytes())


def _limit(limit: CircuitLimit) -> Limit:
    return Limit(duration=limit.span // SECOND, data=limit.data)


def _limit_of(message: Limit) -> CircuitLimit:
    return CircuitLimit(Micros(message.duration * SECOND), message.data)
