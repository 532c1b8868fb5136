"""UPnP Internet Gateway Device, the oldest way to open a port: the C library miniupnpc in a thread, with deadlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import miniupnpc  # type: ignore[import-not-found]
import trio

from node.libp2p_rim import rim
from protocol.errors import Unavailable
from protocol.overlay.endpoint import canonical_ip

DISCOVER_MS: Final = 2_000
"""Milliseconds in which a router answers the search: the library's default, and UPnP's MX."""

CALL_S: Final = 10.0
"""Deadline of a discovery and of a call: the library's own time limits add up to less with a router that answers."""

THREADS_MAX: Final = 2
"""Threads that may hang in a router's web server at a time; they end by themselves."""

DESCRIPTION: Final = "shoal"
"""What an owner reads in the router's list of mappings."""

ATTEMPTS_MAX: Final = 4
"""External ports tried when the one that is wished for belongs to another machine."""

_threads: Final = trio.CapacityLimiter(THREADS_MAX)

T = TypeVar("T")


class _Device(Protocol):
    """The part of miniupnpc.UPnP that is used."""

    lanaddr: str

    def discover(self) -> int: ...
    def selectigd(self) -> str: ...
    def externalipaddress(self) -> str: ...
    def addportmapping(
        self, external: int, protocol: str, host: str, internal: int, text: str, remote: str, seconds: int
    ) -> bool: ...
    def deleteportmapping(self, external: int, protocol: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Hole:
    """What UPnP gave. `lifetime_s` = 0: until it is deleted."""

    external_ip: str
    external_port: int
    lifetime_s: int


class UpnpRouter:
    """The router that answers on the network of `client_ip`; searched for on first use, and again after an error."""

    def __init__(self, client_ip: str) -> None:
        self._client_ip = client_ip
        self._device: _Device | None = None

    async def find(self) -> str:
        """Its outside address. Unavailable when nothing answers, or what answers is no router."""
        device = await self._found()
        return await self._call("ask for the external address", lambda: _external(device))

    async def map(self, internal: int, external: int, lifetime_s: int) -> Hole:
        """Open a TCP port to this machine; Unavailable with the reason when the router refuses."""
        device = await self._found()
        return await self._call("map a port", lambda: _map(device, internal, external, lifetime_s))

    async def unmap(self, external: int) -> None:
        """Close a TCP port."""
        device = await self._found()
        await self._call("delete a mapping", lambda: device.deleteportmapping(external, "TCP"))

    async def _found(self) -> _Device:
        if self._device is None:
            self._device = await self._call("search", lambda: _discover(self._client_ip))
        return self._device

    async def _call(self, what: str, work: Callable[[], T]) -> T:
        try:
            with rim(f"UPnP, {what}"), trio.fail_after(CALL_S):
                return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_threads)
        except Unavailable:
            self._device = None
            raise


def _discover(client_ip: str) -> _Device:
    device: _Device = miniupnpc.UPnP(multicastif=client_ip, discoverdelay=DISCOVER_MS)
    if not device.discover():
        raise Unavailable("no router answers by UPnP", code="no_upnp")
    device.selectigd()
    if canonical_ip(device.lanaddr) != client_ip:
        raise Unavailable(f"a UPnP router answers for {device.lanaddr[:64]}, not for us", code="no_upnp")
    return device


def _external(device: _Device) -> str:
    ip = canonical_ip(device.externalipaddress())
    if ip is None:
        raise Unavailable("the router names no external address", code="no_upnp")
    return ip


def _map(device: _Device, internal: int, external: int, lifetime_s: int) -> Hole:
    """The port that is wished for, else one of the next; some routers know only mappings without end (error 725)."""
    reason = ""
    for number in range(ATTEMPTS_MAX):
        port = external + number if external + number < 65_536 else external - number
        for seconds in (lifetime_s, 0):
            with_reason = _try(device, internal, port, seconds)
            if not with_reason:
                return Hole(_external(device), port, seconds)
            reason = with_reason
            if "OnlyPermanentLeasesSupported" not in reason:
                break
        if "Conflict" not in reason:
            break
    raise Unavailable(f"the router refuses: {reason}"[:300], code="upnp_refused")


def _try(device: _Device, internal: int, external: int, seconds: int) -> str:
    """Empty when it worked, else the router's words."""
    try:
        with rim("map"):
            done = device.addportmapping(external, "TCP", device.lanaddr, internal, DESCRIPTION, "", seconds)
    except Unavailable as error:
        return error.detail
    return "" if done else "no reason given"
