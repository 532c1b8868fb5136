"""Peers on the same local network, by multicast DNS (RFC 6762, 6763): no bootstrap, no configuration.

zeroconf runs an event loop in a thread of its own; what it hears comes over into trio through a bounded channel.
Whatever it hears is only an address to dial: who is there is proved by Noise. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from protocol import wire
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_from_text, peer_text
from protocol.units import PeerId

HEARD_MAX: Final = 64
"""Announcements that wait to be taken over; more are dropped, as they are repeated anyway."""

RESOLVE_MS: Final = 2_000
"""Milliseconds to ask for the addresses behind a name."""

ADDRESSES_MAX: Final = 8
"""Addresses taken from one announcement."""

TTL_S: Final = 120
"""Seconds that others keep our announcement."""

log: Final = logging.getLogger("shoal.discovery")


def service_type(network: str) -> str:
    """The name under which a network's peers announce themselves: two networks on one LAN do not meet.

    >>> service_type("reef")
    '_shoal-0fea651b._tcp.local.'
    """
    return f"_shoal-{wire.digest(network.encode()).hex()[:8]}._tcp.local."


class LocalNetwork:
    """Announces this node on the local network, and hears others. `learn(peer, addresses)` is called in trio."""

    def __init__(self, me: PeerId, network: str, learn: Callable[[PeerId, Iterable[str]], None]) -> None:
        self._me = me
        self._type = service_type(network)
        self._learn = learn
        self.heard = 0
        """Announcements of other peers that were taken over."""

    async def run(self, addresses: Callable[[], Iterable[str]], interfaces: tuple[str, ...] = ()) -> None:
        """Announce and listen until cancelled. Without a network to multicast on: say so once, and end.

        `interfaces`: IP addresses of those to use; empty: all."""
        sending, receiving = trio.open_memory_channel[tuple[PeerId, tuple[str, ...]]](HEARD_MAX)
        try:
            async with self._zeroconf(interfaces) as zeroconf, sending, receiving:
                await trio.to_thread.run_sync(self._announce, zeroconf, list(addresses()))
                browser = await trio.to_thread.run_sync(
                    self._browse, zeroconf, sending, trio.lowlevel.current_trio_token()
                )
                try:
                    async for peer, found in receiving:
                        self.heard += 1
                        self._learn(peer, found)
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(browser.cancel)
        except Unavailable as error:
            log.warning("no discovery on the local network: %s", error.detail)

    @asynccontextmanager
    async def _zeroconf(self, interfaces: tuple[str, ...]) -> AsyncIterator[Zeroconf]:
        def start() -> Zeroconf:
            if interfaces:
                return Zeroconf(interfaces=list(interfaces), ip_version=IPVersion.V4Only)
            return Zeroconf(ip_version=IPVersion.V4Only)

        try:
            zeroconf = await trio.to_thread.run_sync(start)
        except (OSError, ZeroconfError, RuntimeError) as error:
            raise Unavailable(f"multicast DNS cannot start: {error}", code="no_multicast") from error
        try:
            yield zeroconf
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(zeroconf.close)

    def _announce(self, zeroconf: Zeroconf, addresses: list[str]) -> None:
        """In a thread. The name is the peer id; the addresses are those of this host on the local network."""
        info = service_info(self._type, self._me, addresses)
        if info is None:
            log.info("nothing to announce on the local network: no private address is listened on")
            return
        try:
            zeroconf.register_service(info, cooperating_responders=True)
        except (OSError, ZeroconfError) as error:
            log.warning("cannot announce this node on the local network: %s", error)

    def _browse(
        self,
        zeroconf: Zeroconf,
        channel: trio.MemorySendChannel[tuple[PeerId, tuple[str, ...]]],
        token: trio.lowlevel.TrioToken,
    ) -> ServiceBrowser:
        def push(peer: PeerId, found: tuple[str, ...]) -> None:
            with suppress(trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
                channel.send_nowait((peer, found))

        def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            """In zeroconf's browser thread, where waiting is allowed."""
            if state_change is ServiceStateChange.Removed:
                return
            info = zeroconf.get_service_info(service_type, name, RESOLVE_MS)
            known = said_by(info, self._type) if info is not None else None
            if known is not None and known[0] != self._me:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(push, *known)

        return ServiceBrowser(zeroconf, self._type, handlers=[changed])


def service_info(kind: str, me: PeerId, addresses: Iterable[str]) -> ServiceInfo | None:
    """Our announcement: the port of the first direct address, and every IPv4 address with that port.

    Loopback is told only where there is nothing else: elsewhere it is somebody else."""
    found: dict[str, list[str]] = {}
    for text in addresses:
        parts = text.split("/")
        if len(parts) >= 5 and parts[1] == "ip4" and parts[3] == "tcp" and "p2p-circuit" not in text:
            found.setdefault(parts[4], []).append(parts[2])
    if not found:
        return None
    port, every = next(iter(found.items()))
    hosts = [host for host in every if not ipaddress.ip_address(host).is_loopback] or every
    name = peer_text(me)
    return ServiceInfo(
        kind,
        f"{name}.{kind}",
        port=int(port),
        addresses=[ipaddress.IPv4Address(host).packed for host in hosts[:ADDRESSES_MAX]],
        server=f"{name[-16:].lower()}.local.",
        host_ttl=TTL_S,
        other_ttl=TTL_S,
    )


def said_by(info: ServiceInfo, kind: str) -> tuple[PeerId, tuple[str, ...]] | None:
    """Who announced itself and where; None for what is no announcement of a peer."""
    try:
        peer = peer_from_text(info.name.removesuffix(f".{kind}"))
    except Refused:
        return None
    hosts = [host for host in info.parsed_addresses(IPVersion.V4Only) if not ipaddress.ip_address(host).is_global]
    if not info.port or not hosts:
        return None
    return peer, tuple(f"/ip4/{host}/tcp/{info.port}" for host in hosts[:ADDRESSES_MAX])
