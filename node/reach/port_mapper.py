"""Keeps this node's ports open in the router in front of it, for as long as the node runs, and closes them at its end.

Drives `protocol.overlay.port_mapping` over UDP and UPnP, and starts anew when the machine moves to another network.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from node import entropy
from node.clock import Clock
from node.reach.gateway_route import Route, read_route
from node.reach.pcp import RouterLine, hear_announcements, open_line
from node.reach.upnp import UpnpRouter
from protocol.errors import Unavailable
from protocol.overlay.endpoint import is_global
from protocol.overlay.lease import Gained, Lease, Lost, MapByUpnp, MappingEffect, Method, Transmit, UnmapByUpnp
from protocol.overlay.pcp import NONCE_BYTES
from protocol.overlay.port_mapping import PortMapping
from protocol.units import SECOND

ROUTE_INTERVAL_S: Final = 10.0
"""Seconds between two looks at the default route: a laptop that changed its network is mapped again soon after."""

CLOSE_S: Final = 2.0
"""Deadline for closing the ports at the end; what stays open ends with its lease."""

DATAGRAMS_MAX: Final = 64
"""Datagrams of the router that wait; more are dropped, for each answer is asked for again."""

log: Final = logging.getLogger("shoal.reach")


@dataclass(frozen=True, slots=True)
class MappingStatus:
    """How port mapping stands, for `doctor`."""

    gateway: str
    """The router's inside address; empty without a default route."""
    router_ip: str
    """The outside address that the router claims, empty while unknown."""
    leases: tuple[Lease, ...]
    failures: tuple[tuple[Method, str], ...]
    """Why a method gave nothing."""
    is_needed: bool
    """False when this machine has a public address itself."""
    is_on: bool
    """False when the owner wants no port mapped."""


@dataclass(frozen=True, slots=True)
class _Datagram:
    data: bytes | None
    is_announcement: bool = False


@dataclass(slots=True)
class _Router:
    """One router, as long as the way to it stays the same."""

    line: RouterLine
    machine: PortMapping
    upnp: UpnpRouter
    changed: trio.Event


class PortMapper:
    """`run` it in a task. `heard` is told of every port that opens, moves or is lost."""

    def __init__(self, ports: Sequence[int], clock: Clock, heard: Callable[[Gained | Lost], None]) -> None:
        self._ports = tuple(dict.fromkeys(port for port in ports if port))
        self._clock = clock
        self._heard = heard
        self._router: _Router | None = None
        self._gateway = ""
        self._is_needed = True

    @property
    def status(self) -> MappingStatus:
        """How it stands now."""
        machine = self._router.machine if self._router is not None else None
        return MappingStatus(
            self._gateway,
            machine.router_ip if machine is not None else "",
            tuple(machine.leases) if machine is not None else (),
            tuple(machine.failures.items()) if machine is not None else (),
            self._is_needed,
            bool(self._ports),
        )

    async def run(self) -> None:
        """Until cancelled; then the ports are closed."""
        while self._ports:
            route = read_route()
            self._gateway = route.gateway if route is not None else ""
            if route is None or not route.gateway:
                await trio.sleep(ROUTE_INTERVAL_S)
                continue
            try:
                await self._serve(route)
            except Unavailable as error:
                log.info("port mapping: %s", error.detail)
                await trio.sleep(ROUTE_INTERVAL_S)

    async def _serve(self, route: Route) -> None:
        """Work with one router until the way to it changes."""
        line = await open_line(route.gateway)
        self._is_needed = not is_global(line.client_ip)
        nonces = [entropy.seed()[:NONCE_BYTES] for _ in self._ports]
        machine = PortMapping(line.client_ip, self._ports, nonces, entropy.dice())
        router = self._router = _Router(line, machine, UpnpRouter(line.client_ip), trio.Event())
        inbox_in, inbox = trio.open_memory_channel[_Datagram](DATAGRAMS_MAX)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_route, route, router, nursery.cancel_scope)
                if self._is_needed:
                    nursery.start_soon(_receive, line, inbox_in)
                    nursery.start_soon(_listen, route.gateway, inbox_in)
                    await self._drive(router, inbox, nursery)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
                await self._close(router)
            self._router = None
            line.close()

    async def _watch_route(self, route: Route, router: _Router, scope: trio.CancelScope) -> None:
        while True:
            await trio.sleep(ROUTE_INTERVAL_S)
            if read_route() != route or await _client_ip(route.gateway) != router.line.client_ip:
                log.info("the way to the router changed")
                scope.cancel()

    async def _drive(self, router: _Router, inbox: trio.MemoryReceiveChannel[_Datagram], nursery: trio.Nursery) -> None:
        """Time, datagrams and results of UPnP into the machine; what it wants, done."""
        nursery.start_soon(self._receive_all, router, inbox, nursery)
        while True:
            await self._act(router, router.machine.tick(self._clock.now()), nursery)
            router.changed = trio.Event()
            wait = max(0, router.machine.next_wake - self._clock.now()) / SECOND
            with trio.move_on_after(wait):
                await router.changed.wait()

    async def _receive_all(
        self, router: _Router, inbox: trio.MemoryReceiveChannel[_Datagram], nursery: trio.Nursery
    ) -> None:
        machine = router.machine
        async for item in inbox:
            now = self._clock.now()
            if item.data is None:
                effects = machine.unreachable(now)
            elif item.is_announcement:
                effects = machine.announced(item.data, now)
            else:
                effects = machine.datagram(item.data, now)
            await self._act(router, effects, nursery)
            router.changed.set()

    async def _act(self, router: _Router, effects: list[MappingEffect], nursery: trio.Nursery) -> None:
        for effect in effects:
            match effect:
                case Transmit(data=data):
                    if not await router.line.send(data):
                        await self._act(router, router.machine.unreachable(self._clock.now()), nursery)
                case MapByUpnp():
                    nursery.start_soon(self._map_by_upnp, router, effect, nursery)
                case UnmapByUpnp():
                    log.debug("a mapping is deleted at the end only")
                case Gained(lease=lease):
                    log.info(
                        "port %d is open at %s:%d (%s)",
                        lease.internal_port, lease.external_ip, lease.external_port, lease.method,
                    )  # fmt: skip
                    self._heard(effect)
                case Lost(lease=lease, why=why):
                    log.warning("port %d is no longer open in the router: %s", lease.internal_port, why)
                    self._heard(effect)

    async def _map_by_upnp(self, router: _Router, wish: MapByUpnp, nursery: trio.Nursery) -> None:
        try:
            hole = await router.upnp.map(wish.internal_port, wish.external_port, wish.lifetime_s)
        except Unavailable as error:
            effects = router.machine.upnp_failed(error.detail, self._clock.now())
        else:
            effects = router.machine.upnp_mapped(
                wish.internal_port, hole.external_ip, hole.external_port, hole.lifetime_s, self._clock.now()
            )
        await self._act(router, effects, nursery)
        router.changed.set()

    async def _close(self, router: _Router) -> None:
        """Give every port back, as far as the router listens."""
        for effect in router.machine.close():
            if isinstance(effect, Transmit):
                await router.line.send(effect.data)
            elif isinstance(effect, UnmapByUpnp):
                try:
                    await router.upnp.unmap(effect.external_port)
                except Unavailable as error:
                    log.info("port %d stays open: %s", effect.external_port, error.detail)


async def _client_ip(gateway: str) -> str:
    """Our address towards the router now; empty when there is no way."""
    try:
        line = await open_line(gateway)
    except Unavailable:
        return ""
    line.close()
    return line.client_ip


async def _receive(line: RouterLine, inbox: trio.MemorySendChannel[_Datagram]) -> None:
    while True:
        data = await line.receive()
        try:
            inbox.send_nowait(_Datagram(data))
        except trio.WouldBlock:
            continue


async def _listen(gateway: str, inbox: trio.MemorySendChannel[_Datagram]) -> None:
    async def heard(data: bytes) -> None:
        try:
            inbox.send_nowait(_Datagram(data, is_announcement=True))
        except trio.WouldBlock:
            return

    await hear_announcements(gateway, heard)
