"""Uses relays: reserves a place, dials through them, and takes the circuits that they bring.

    client = RelayClient(host, connect, punish, clock, dice)
    host.set_stream_handler(STOP_PROTOCOL, in_nursery(nursery, client.serve))
    dialer.dial_circuit = client.dial                     # (relay, target)

Circuit relay v2 on the wire. Spec: specs/20-relays.md.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import IHost, INetStream

from node.addresses import is_dialable
from node.clock import Clock
from node.libp2p_rim import peer_of, remote_of, rim
from node.reach.circuit_messages import (
    HOP_PROTOCOL,
    CircuitLimit,
    ConnectRequest,
    MessageReader,
    Reply,
    Status,
    answer_stop,
    ask_for_circuit,
    ask_to_reserve,
)
from node.reach.relayed_connection import (
    RelayedConnection,
    is_connected_directly,
    is_relayed,
    open_directly,
    upgrade_inbound,
    upgrade_outbound,
)
from node.streams import read_some, reset, write_all
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.subnets import is_global_address
from protocol.units import HOUR, KIB, MINUTE, Micros, PeerId

REPLY_S: Final = 8.0
"""A relay that does not answer within eight seconds is not used; CONNECT includes its question to the target."""

RESERVATION_MIN_US: Final = MINUTE
"""A reservation that ends sooner would be refreshed all the time; it is not taken."""

RESERVATION_MAX_US: Final = Micros(2 * HOUR)
"""Whatever a relay promises, it is asked again within two hours."""

ARRIVING_MAX: Final = 32
"""Circuits that relays bring and that are being upgraded, at a time; one more is refused."""

PROBE_BYTES: Final = 16 * KIB
"""Bytes that a probe sends through a relay to ourselves, and that have to come back."""

PROBE_S: Final = 5.0
"""A relay that does not bring the probe back within five seconds drops bytes."""

log: Final = logging.getLogger("shoal.reach")


@dataclass(frozen=True, slots=True)
class Reservation:
    """A place at a relay. `address` is where the relay is, as this node is connected to it."""

    relay: PeerId
    address: str
    until: Micros
    limit: CircuitLimit

    @property
    def circuit(self) -> str:
        """The address under which this node is reached through the relay."""
        return _circuit_text(self.address, self.relay)


class RelayClient:
    """`connect(relay)` has a direct connection or raises Unavailable."""

    def __init__(
        self,
        host: IHost,
        connect: Callable[[PeerId], Awaitable[None]],
        punish: Callable[[RemoteViolation], Awaitable[None]],
        clock: Clock,
        dice: random.Random,
    ) -> None:
        self._host = host
        self._connect = connect
        self._punish = punish
        self._clock = clock
        self._dice = dice
        self._me = peer_of(host.get_id())
        self._arriving = 0
        self._probes: set[PeerId] = set()
        self.reserved: dict[PeerId, Reservation] = {}
        """Relays that may bring circuits."""
        self.troubled: Callable[[PeerId], None] = _ignore
        """Hears of a relay whose circuit broke before it was of use; it may be the other end's fault."""

    async def reserve(self, relay: PeerId) -> Reservation:
        """Have or refresh a place at a relay. Refused with the relay's reason, Unavailable when it does not answer."""
        stream = await self._ask(relay)
        try:
            with rim(f"reserve at {peer_text(relay)}"), trio.fail_after(REPLY_S):
                await ask_to_reserve(stream)
                reply = await self._reply(MessageReader(stream, relay, HOP_PROTOCOL))
        finally:
            await reset(stream)
        reply.check(f"reserve at {peer_text(relay)}")
        now = self._clock.now()
        if reply.expires < now + RESERVATION_MIN_US:
            raise Unavailable(f"{peer_text(relay)} grants less than a minute", code="reservation_short")
        until = Micros(min(reply.expires, now + RESERVATION_MAX_US))
        address = _direct_address(stream, reply.addresses)
        reservation = self.reserved[relay] = Reservation(relay, address, until, reply.limit)
        return reservation

    def release(self, relay: PeerId) -> None:
        """Take no more circuits from a relay. It forgets the place when the connection ends, or in time."""
        self.reserved.pop(relay, None)

    async def dial(self, relay: PeerId, target: PeerId) -> None:
        """Be connected to the target through the relay. Refused with the relay's reason, Unavailable otherwise."""
        circuit = await self._circuit(relay, target)
        try:
            await upgrade_outbound(self._host, circuit, target)
        except Unavailable:
            self.troubled(relay)
            raise

    def is_connected(self, relay: PeerId) -> bool:
        """Whether a direct connection to the relay is open."""
        return is_connected_directly(self._host, relay)

    async def probe(self, relay: PeerId) -> Micros:
        """Send bytes to ourselves through a relay where we have a place; µs until they are back.

        RemoteViolation when they do not come back, or come back changed; Refused when the relay does not bring anybody
        to himself (which proves nothing); Unavailable when it could not be asked."""
        self._probes.add(relay)
        try:
            circuit = await self._circuit(relay, self._me)
            started = self._clock.now()
            is_back = await self._comes_back(circuit)
        finally:
            self._probes.discard(relay)
        if not is_connected_directly(self._host, relay):
            raise Unavailable(f"{peer_text(relay)} was lost while it was probed", code="link")
        if not is_back:
            raise RemoteViolation(relay, "bytes to ourselves through it did not come back", code="relay_drops")
        return Micros(self._clock.now() - started)

    async def serve(self, stream: INetStream) -> None:
        """One circuit that a relay brings: on the way to us, or a probe of ours."""
        relay = remote_of(stream)
        try:
            reader = MessageReader(stream, relay)
            with rim("read what a relay brings"), trio.fail_after(REPLY_S):
                request = await reader.stop_request()
            if is_relayed(stream) or (relay not in self.reserved and relay not in self._probes):
                await self._decline(stream, Status.PERMISSION_DENIED)
            elif request.peer == self._me:
                await self._echo(stream, reader, relay)
            elif self._arriving >= ARRIVING_MAX:
                await self._decline(stream, Status.RESOURCE_LIMIT_EXCEEDED)
            else:
                await self._arrive(stream, reader, relay, request)
        except (Refused, Unavailable) as error:
            log.info("a circuit through %s: %s", peer_text(relay), error.detail)
            await reset(stream)
        except RemoteViolation as error:
            await reset(stream)
            await self._punish(error)

    async def _arrive(self, stream: INetStream, reader: MessageReader, relay: PeerId, request: ConnectRequest) -> None:
        self._arriving += 1
        try:
            await answer_stop(stream, Status.OK)
            circuit = _circuit_text(_direct_address(stream, ()), relay)
            connection = RelayedConnection(stream, reader.rest(), circuit, is_initiator=False)
            await upgrade_inbound(self._host, connection, request.peer, relay)
        except (RemoteViolation, Unavailable):
            self.troubled(relay)
            raise
        finally:
            self._arriving -= 1

    async def _echo(self, stream: INetStream, reader: MessageReader, relay: PeerId) -> None:
        """The far end of our own probe: everything goes back."""
        if relay not in self._probes:
            await self._decline(stream, Status.PERMISSION_DENIED)
            return
        await answer_stop(stream, Status.OK)
        left = PROBE_BYTES
        with trio.move_on_after(PROBE_S):
            piece = reader.rest() or await read_some(stream)
            while piece and left > 0:
                left -= len(piece)
                await write_all(stream, piece)
                piece = await read_some(stream)
        await reset(stream)

    async def _comes_back(self, circuit: RelayedConnection) -> bool:
        sent = self._dice.randbytes(PROBE_BYTES)
        came = bytearray()
        try:
            with rim("probe"), trio.move_on_after(PROBE_S):
                await circuit.write(sent)
                while len(came) < len(sent) and (piece := await circuit.read(len(sent) - len(came))):
                    came += piece
        except Unavailable as error:
            log.info("a probe broke: %s", error.detail)
        finally:
            await circuit.abort()
        return came == sent

    async def _decline(self, stream: INetStream, status: Status) -> None:
        await answer_stop(stream, status)
        with rim("decline a circuit"):
            await stream.close()

    async def _circuit(self, relay: PeerId, target: PeerId) -> RelayedConnection:
        doing = f"connect to {peer_text(target)} through {peer_text(relay)}"
        stream = await self._ask(relay)
        try:
            reader = MessageReader(stream, relay, HOP_PROTOCOL)
            with rim(doing), trio.fail_after(REPLY_S):
                await ask_for_circuit(stream, target)
                (await self._reply(reader)).check(doing)
            circuit = _circuit_text(_direct_address(stream, ()), relay)
        except BaseException:
            await reset(stream)
            raise
        return RelayedConnection(stream, reader.rest(), circuit, is_initiator=True)

    async def _reply(self, reader: MessageReader) -> Reply:
        """A relay's answer; rubbish is reported, and to the caller it is no answer."""
        try:
            return await reader.hop_reply()
        except RemoteViolation as error:
            await self._punish(error)
            raise Unavailable(f"the relay answers rubbish: {error.rule}", code="link") from error

    async def _ask(self, relay: PeerId) -> INetStream:
        await self._connect(relay)
        return await open_directly(self._host, relay, HOP_PROTOCOL)


def _direct_address(stream: INetStream, offered: tuple[str, ...]) -> str:
    """Where others dial the relay: what it says of itself when that is where we see it, or when only that is public."""
    with rim("address of a relay"):
        seen = [str(address).partition("/p2p/")[0] for address in stream.muxed_conn.get_transport_addresses()]
    if not seen:
        raise Unavailable("the relay's address is unknown", code="link")
    host = seen[0].rpartition("/tcp/")[0]
    said = [text for text in (text.partition("/p2p/")[0] for text in offered) if is_dialable(text)]
    fitting = [text for text in said if text.rpartition("/tcp/")[0] == host]
    public = [] if is_global_address(seen[0]) else [text for text in said if is_global_address(text)]
    return (fitting or public or seen)[0]


def _circuit_text(address: str, relay: PeerId) -> str:
    return f"{address}/p2p/{peer_text(relay)}/p2p-circuit"


def _ignore(relay: PeerId) -> None:
    """Until somebody wants to hear of troubled relays."""
