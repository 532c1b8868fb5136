"""Where peers can be reached: an address book, and the dialer that tries its entries with patience."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

import psutil
import trio
from libp2p.abc import IHost, INetStream
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import HANDSHAKE_S, libp2p_id, protocol_id, rim
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_from_text, peer_text
from protocol.units import PeerId

ADDRESSES_PER_PEER: Final = 8
"""As many as an offer carries."""

PEERS_KNOWN_MAX: Final = 4_096
"""Peers in the address book; the longest unheard is forgotten first."""

DIAL_S: Final = 5.0
"""Deadline per address: three round trips of a handshake over the worst link that is still useful."""

BACKOFF_MIN_S: Final = 0.25
"""First wait after a failed dial."""

BACKOFF_MAX_S: Final = 30.0
"""Longest wait between dials: a bootstrap that comes back is found within half a minute."""

FORBID_S: Final = 60.0
"""How long a peer that broke a rule, or belongs to another network, is not dialled and not let in."""


def split_address(text: str) -> tuple[PeerId, str]:
    """`/ip4/…/tcp/…/p2p/12D3KooW…` as (peer, address without the peer); Refused when a part is missing."""
    head, mark, tail = text.rpartition("/p2p/")
    if not mark or not is_dialable(head):
        raise Refused(
            f"{text[:200]!r} is no address of a peer",
            code="bad_address",
            fix="An address looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…; `shoal node status` shows yours.",
        )
    return peer_from_text(tail), head


def is_dialable(text: str) -> bool:
    """True for TCP over IPv4, IPv6 or a name, with a port that can be dialled."""
    parts = text.split("/")
    if len(parts) != 5 or parts[1] not in {"ip4", "ip6", "dns", "dns4", "dns6"} or parts[3] != "tcp":
        return False
    if parts[2] in {"0.0.0.0", "::"} or parts[4] == "0":
        return False
    try:
        Multiaddr(text)
    except ValueError:
        return False
    return True


def dialable_addresses(listening: Iterable[str]) -> list[str]:
    """Addresses that others can dial: 0.0.0.0 and :: stand for every interface, loopback last (for this machine)."""
    found: dict[str, None] = {}
    for text in listening:
        for wildcard, family, kind in (("/ip4/0.0.0.0/", socket.AF_INET, "ip4"), ("/ip6/::/", socket.AF_INET6, "ip6")):
            if text.startswith(wildcard):
                rest = text.removeprefix(wildcard)
                found |= dict.fromkeys(f"/{kind}/{address}/{rest}" for address in _interface_addresses(family))
                break
        else:
            found[text] = None
    return list(found)[:ADDRESSES_PER_PEER]


def _interface_addresses(family: socket.AddressFamily) -> list[str]:
    every = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == family]
    usable = [address for address in every if not address.lower().startswith("fe80:")]
    return sorted(usable, key=lambda address: ipaddress.ip_address(address).is_loopback)


class AddressBook:
    """Addresses by peer, newest peers last. Bounded in peers and in addresses per peer."""

    def __init__(self) -> None:
        self._known: dict[PeerId, tuple[str, ...]] = {}
        self._forbidden: dict[PeerId, float] = {}
        self.changed = trio.Event()
        """Set and replaced when an address becomes known."""

    def learn(self, peer: PeerId, addresses: Iterable[str]) -> bool:
        """Add addresses, the newest in front; what cannot be dialled is left out. True when something is new."""
        before = self._known.pop(peer, ())
        offered = (text.rpartition("/p2p/")[0] or text for text in addresses)
        fresh = tuple(dict.fromkeys(text for text in offered if is_dialable(text)))
        merged = (fresh + tuple(text for text in before if text not in fresh))[:ADDRESSES_PER_PEER]
        if merged:
            self._known[peer] = merged
        while len(self._known) > PEERS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        is_new = set(merged) != set(before)
        if is_new:
            self.changed.set()
            self.changed = trio.Event()
        return is_new

    def worked(self, peer: PeerId, address: str) -> None:
        """This address answered: try it first next time."""
        self.learn(peer, (address,))

    def of(self, peer: PeerId) -> tuple[str, ...]:
        """Addresses of a peer, best first; empty when it is unknown."""
        return self._known.get(peer, ())

    def all(self) -> dict[PeerId, tuple[str, ...]]:
        """Everything known, the newest last."""
        return dict(self._known)

    def forbid(self, peer: PeerId) -> None:
        """Have nothing to do with a peer for `FORBID_S`."""
        self._forbidden[peer] = trio.current_time() + FORBID_S

    def is_forbidden(self, peer: PeerId) -> bool:
        """True while a peer is shut out."""
        until = self._forbidden.get(peer)
        if until is not None and until <= trio.current_time():
            del self._forbidden[peer]
            return False
        return until is not None


@dataclass(slots=True)
class Backoff:
    """Waits that double from `BACKOFF_MIN_S` to `BACKOFF_MAX_S`, each between half and all of it."""

    dice: random.Random
    wait: float = BACKOFF_MIN_S

    def next(self) -> float:
        """Seconds to wait now; the next wait is longer."""
        now, self.wait = self.wait, min(self.wait * 2, BACKOFF_MAX_S)
        return now * self.dice.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Something worked."""
        self.wait = BACKOFF_MIN_S


class Dialer:
    """Connects to peers by the address book; never twice at once to the same peer."""

    def __init__(self, host: IHost, book: AddressBook, dice: random.Random) -> None:
        self._host = host
        self.book = book
        self.dice = dice
        self._busy: dict[PeerId, trio.Event] = {}
        self._sockets: WeakSet[TrioTCPStream] = WeakSet()
        self.dials = 0
        self.failures = 0

    def backoff(self) -> Backoff:
        """A fresh back-off with this node's dice."""
        return Backoff(self.dice)

    def is_connected(self, peer: PeerId) -> bool:
        """True when a libp2p connection is open."""
        return bool(self._host.get_network().get_connections(libp2p_id(peer)))

    async def connect(self, peer: PeerId) -> None:
        """Have a connection, or raise Unavailable with the reason for every address that was tried."""
        while not self.is_connected(peer):
            if self.book.is_forbidden(peer):
                raise Unavailable(f"{peer_text(peer)} is shut out for now", code="forbidden")
            busy = self._busy.get(peer)
            if busy is None:
                await self._dial(peer)
                return
            await busy.wait()

    async def _dial(self, peer: PeerId) -> None:
        done = self._busy[peer] = trio.Event()
        try:
            await self._try_addresses(peer)
        finally:
            del self._busy[peer]
            done.set()

    async def _try_addresses(self, peer: PeerId) -> None:
        name = libp2p_id(peer)
        failures: list[str] = []
        for address in self.book.of(peer):
            self.dials += 1
            try:
                with rim(address), trio.fail_after(DIAL_S), libp2p_patches.remember_sockets(self._sockets):
                    libp2p_patches.forget_failure(self._host, name)
                    await self._host.get_network().dial_addr(Multiaddr(f"{address}/p2p/{name}"), name)
            except Unavailable as error:
                self.failures += 1
                failures.append(error.detail)
                continue
            if self.is_connected(peer):
                self.book.worked(peer, address)
                return
            failures.append(f"{address}: closed by the other side at once")
        raise Unavailable(
            f"{peer_text(peer)} cannot be reached: {'; '.join(failures) or 'no address is known'}", code="unreachable"
        )

    async def open_stream(self, peer: PeerId, protocol: str) -> INetStream:
        """A new stream that speaks `protocol`, over a connection that is there or is dialled now. Unavailable else."""
        await self.connect(peer)
        name = libp2p_id(peer)
        try:
            with rim(f"open {protocol} to {peer_text(peer)}"), trio.fail_after(HANDSHAKE_S):
                return await self._host.new_stream(name, [protocol_id(protocol)])
        except Unavailable:
            other = self._foreign_protocol(name, protocol)
            if other is None:
                raise
            self.book.forbid(peer)
            raise Unavailable(
                f"{peer_text(peer)} speaks {other}, this node speaks {protocol}",
                code="foreign_network",
                fix="Both nodes need the same network name and the same protocol version.",
            ) from None

    def _foreign_protocol(self, name: ID, protocol: str) -> str | None:
        """The Shoal protocol that a peer announced instead of ours; None when it announced ours or none."""
        with rim("protocols of a peer"):
            announced = [str(known) for known in self._host.get_peerstore().get_protocols(name)]
        shoals = [known for known in announced if known.startswith("/shoal/") and "/blob/" not in known]
        return None if not shoals or protocol in announced else shoals[0]

    async def close(self) -> None:
        """At the very end: close what libp2p left open."""
        for stream in list(self._sockets):
            await stream.close()

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to a peer."""
        try:
            with rim("disconnect"), trio.fail_after(HANDSHAKE_S):
                await self._host.disconnect(libp2p_id(peer))
        except Unavailable:
            return  # It was closed already.
