"""Relays for others: every public peer runs one, within a budget that is really enforced.

    server = RelayServer(host, RelayBudget(RelayLimits()), clock, addresses, is_shut_out, punish, counts)
    host.set_stream_handler(HOP_PROTOCOL, in_nursery(nursery, server.serve));  nursery.start_soon(server.run)

Circuit relay v2 on the wire. Spec: specs/20-relays.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio
from libp2p.abc import IHost, INetStream

from node.clock import Clock
from node.libp2p_rim import remote_of, rim
from node.reach.circuit_messages import (
    STOP_PROTOCOL,
    CircuitLimit,
    ConnectRequest,
    MessageReader,
    Reply,
    ReserveRequest,
    Status,
    announce_circuit,
    answer_hop,
)
from node.reach.relayed_connection import finish, is_connected_directly, is_relayed, open_directly
from node.streams import read_some, reset, write_all
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_text
from protocol.overlay.endpoint import canonical_ip
from protocol.overlay.relay_budget import Circuit, Denial, Denied, RelayBudget
from protocol.units import SECOND, PeerId

REQUEST_S: Final = 10.0
"""A request has to be read within ten seconds of its stream."""

REQUESTS_MAX: Final = 256
"""Requests that are being read at a time; one more is reset unread."""

REQUESTS_PER_PEER_MAX: Final = 16
"""The same of one peer."""

LINGER_S: Final = 10.0
"""When one direction of a circuit has ended, the other has ten seconds left."""

TICK_S: Final = 1.0
"""Circuits over their time, and reservations of peers that left, end at most so late."""

STATUS_OF: Final = {
    Denial.PERMISSION: Status.PERMISSION_DENIED,
    Denial.NO_RESERVATION: Status.NO_RESERVATION,
    Denial.RESOURCES: Status.RESOURCE_LIMIT_EXCEEDED,
}
"""What a refusal is called on the wire."""

log: Final = logging.getLogger("shoal.reach")


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """What a relay does right now."""

    reservations: int
    circuits: int
    bytes_passed: int


class RelayServer:
    """Answers RESERVE and CONNECT, and passes bytes between two streams. `counts` hears what it did.

    `addresses` are our own, as others dial them; `is_shut_out` names peers that get nothing."""

    def __init__(
        self,
        host: IHost,
        budget: RelayBudget,
        clock: Clock,
        addresses: Callable[[], Sequence[str]],
        is_shut_out: Callable[[PeerId], bool],
        punish: Callable[[RemoteViolation], Awaitable[None]],
        counts: Counter[str],
    ) -> None:
        self._host = host
        self._budget = budget
        self._clock = clock
        self._addresses = addresses
        self._is_shut_out = is_shut_out
        self._punish = punish
        self._counts = counts
        self._scopes: dict[Circuit, trio.CancelScope] = {}
        self._reading: Counter[PeerId] = Counter()
        self._passed = 0

    @property
    def status(self) -> RelayStatus:
        """For `shoal doctor` and the metrics."""
        return RelayStatus(len(self._budget.reservations), len(self._budget.circuits), self._passed)

    async def run(self) -> None:
        """End what is over its time, for ever."""
        while True:
            await trio.sleep(TICK_S)
            for circuit in self._budget.tick(self._clock.now()):
                self._scopes[circuit].cancel()
            for peer in self._budget.reservations:
                if not is_connected_directly(self._host, peer):
                    self._budget.release(peer)

    async def serve(self, stream: INetStream) -> None:
        """One stream of a client: a request, and the circuit that may come of it."""
        try:
            await self._serve(stream)
        except (Unavailable, Refused) as error:
            log.debug("relaying: %s", error.detail)
            await reset(stream)
        except RemoteViolation as error:
            await reset(stream)
            await self._punish(error)

    async def _serve(self, stream: INetStream) -> None:
        peer = remote_of(stream)
        if self._reading.total() >= REQUESTS_MAX or self._reading[peer] >= REQUESTS_PER_PEER_MAX:
            raise Unavailable("too many requests are being read", code="busy")
        reader = MessageReader(stream, peer)
        self._reading[peer] += 1
        try:
            with rim("read a request"), trio.fail_after(REQUEST_S):
                request = await reader.hop_request()
        except RemoteViolation:
            await self._refuse(stream, Status.MALFORMED_MESSAGE, "the request cannot be read")
            raise
        finally:
            self._reading[peer] -= 1
            if not self._reading[peer]:
                del self._reading[peer]
        if is_relayed(stream) or self._is_shut_out(peer):
            await self._refuse(stream, Status.PERMISSION_DENIED, f"{peer_text(peer)} may not use this relay")
        elif isinstance(request, ReserveRequest):
            await self._reserve(stream, peer)
        else:
            await self._connect(stream, reader, peer, request)

    async def _reserve(self, stream: INetStream, peer: PeerId) -> None:
        outcome = self._budget.reserve(peer, _ip_of(stream), self._clock.now())
        if isinstance(outcome, Denied):
            status = Status.RESERVATION_REFUSED if outcome.why is Denial.RESOURCES else STATUS_OF[outcome.why]
            await self._refuse(stream, status, outcome.detail)
            return
        self._counts["relay_reservations"] += 1
        me = self._host.get_id()
        addresses = tuple(f"{address}/p2p/{me}" for address in self._addresses())
        await answer_hop(stream, Reply(Status.OK, self._limit, outcome.until, addresses))
        await finish(stream)

    async def _connect(self, stream: INetStream, reader: MessageReader, peer: PeerId, request: ConnectRequest) -> None:
        circuit = self._budget.open(peer, _ip_of(stream), request.peer, self._clock.now())
        if isinstance(circuit, Denied):
            await self._refuse(stream, STATUS_OF[circuit.why], circuit.detail)
            return
        other: INetStream | None = None
        try:
            with trio.CancelScope() as scope:
                self._scopes[circuit] = scope
                stop = await self._announce(stream, circuit)
                if stop is None:
                    return
                other, early = stop
                self._budget.established(circuit, self._clock.now())
                await answer_hop(stream, Reply(Status.OK, self._limit))
                self._counts["relay_circuits"] += 1
                await self._bridge(circuit, (stream, reader.rest()), (other, early), scope)
        finally:
            self._budget.close(circuit)
            self._scopes.pop(circuit, None)
            await reset(stream)
            if other is not None:
                await reset(other)

    async def _announce(self, stream: INetStream, circuit: Circuit) -> tuple[INetStream, bytes] | None:
        """Ask the target; its stream and what it sent early, or None after the source was told that it failed."""
        seconds = self._budget.limits.opening_us / SECOND
        other: INetStream | None = None
        try:
            with rim("ask the target"), trio.fail_after(seconds):
                other = await open_directly(self._host, circuit.target, STOP_PROTOCOL)
                reader = MessageReader(other, circuit.target, STOP_PROTOCOL)
                await announce_circuit(other, circuit.source, self._limit)
                (await reader.stop_reply()).check("the target")
                return other, reader.rest()
        except (Unavailable, Refused, RemoteViolation) as error:
            if other is not None:
                await reset(other)
            await self._refuse(stream, Status.CONNECTION_FAILED, error.detail)
            return None
        except trio.Cancelled:
            if other is not None:
                await reset(other)
            raise

    async def _bridge(
        self,
        circuit: Circuit,
        source: tuple[INetStream, bytes],
        target: tuple[INetStream, bytes],
        scope: trio.CancelScope,
    ) -> None:
        """Both directions until both have ended, one was cut, or the time is over."""

        async def go(sender: PeerId, came: tuple[INetStream, bytes], to: INetStream) -> None:
            try:
                is_cut = await self._pass(circuit, sender, came, to)
            except Unavailable as error:
                log.debug("a circuit broke: %s", error.detail)
                is_cut = True
            nursery.cancel_scope.deadline = trio.current_time() + (0 if is_cut else LINGER_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go, circuit.source, source, target[0])
            nursery.start_soon(go, circuit.target, target, source[0])

    async def _pass(self, circuit: Circuit, sender: PeerId, came: tuple[INetStream, bytes], to: INetStream) -> bool:
        """One direction. One piece is in memory at a time, so a slow receiver slows its sender. True: it was cut."""
        stream, piece = came
        piece = piece or await read_some(stream)
        while piece:
            grant = self._budget.take(circuit, sender, len(piece), self._clock.now())
            if grant.wait:
                await trio.sleep(grant.wait / SECOND)
            if grant.size:
                self._passed += grant.size
                self._counts["relay_bytes"] += grant.size
                await write_all(to, piece[: grant.size])
            if grant.size < len(piece):
                self._counts["relay_circuits_cut"] += 1
                await finish(to)
                return True
            piece = await read_some(stream)
        await finish(to)
        return False

    async def _refuse(self, stream: INetStream, status: Status, detail: str) -> None:
        self._counts[f"relay_refused_{status.name.lower()}"] += 1
        log.debug("a relay request is refused: %s", detail)
        await answer_hop(stream, Reply(status))
        await finish(stream)

    @property
    def _limit(self) -> CircuitLimit:
        return CircuitLimit(self._budget.limits.circuit_us, self._budget.limits.circuit_bytes)


def _ip_of(stream: INetStream) -> str:
    """Where a client is, without its port. Unavailable when the connection is gone already."""
    remote = stream.get_remote_address()
    found = canonical_ip(remote[0]) if remote is not None else None
    if found is None:
        raise Unavailable("the client's address is unknown", code="link")
    return found
