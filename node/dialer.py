"""Connects to peers by the address book: direct addresses race, circuits through relays stand by.

A dial to a public address leaves from the port that this node listens on, so that the router's mapping is the one that
others see and can be let in by; where that fails, any port will do. Spec: specs/12-transport.md.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal
from weakref import WeakSet

import trio
from libp2p.abc import IHost, INetConn, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.io.trio import TrioTCPStream
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node import libp2p_patches
from node.addresses import AddressBook, Backoff, split_circuit, without_target
from node.libp2p_rim import HANDSHAKE_S, dial, libp2p_id, peer_of, protocol_id, rim, was_refused
from node.reach import half_open
from node.reach.sockets import abort, local_port
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_from_text, peer_text
from protocol.overlay.subnets import is_global_address
from protocol.units import PeerId

DIAL_S: Final = 5.0
"""Deadline per address: three round trips of a handshake over the worst link that is still useful."""

STAGGER_S: Final = 0.25
"""Seconds before the next address joins the race (RFC 8305)."""

BESIDE_S: Final = 1.5
"""Seconds until a dial from the listening port that nobody answered, not even the second SYN, is joined by one from any
port: after an outage the other end may hold an old connection between the same two ports for minutes."""

HEAD_START_S: Final = 1.0
"""Seconds that direct addresses have before relays are asked too."""

SEARCH_S: Final = 15.0
"""Deadline for asking the directory where a peer is."""

PathKind = Literal["direct", "punched", "relayed"]
DialCircuit = Callable[[PeerId, PeerId], Awaitable[None]]
LookUp = Callable[[PeerId], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PeerPath:
    """One open connection to a peer: how it goes, where it ends, and through which relay."""

    kind: PathKind
    address: str
    relay: PeerId | None = None


class Dialer:
    """Connects to peers by the address book; never twice at once to the same peer."""

    def __init__(self, host: IHost, book: AddressBook, dice: random.Random) -> None:
        self._host = host
        self._me = peer_of(host.get_id())
        self.book = book
        self.dice = dice
        self._busy: dict[PeerId, trio.Event] = {}
        self._sockets: WeakSet[TrioTCPStream] = WeakSet()
        self.listen_port = 0
        """The TCP port that dials to public addresses leave from; 0: any."""
        self.dial_circuit: DialCircuit | None = None
        """`(relay, target)`: connects through a relay; None while this node can use none."""
        self.look_up: LookUp | None = None
        """Learns where a peer is from the directory; None while there is none."""
        self.punched: set[PeerId] = set()
        """Peers whose direct connection came about by hole punching."""
        self.dials = 0
        self.failures = 0

    def backoff(self) -> Backoff:
        """A fresh back-off with this node's dice."""
        return Backoff(self.dice)

    def is_connected(self, peer: PeerId) -> bool:
        """True when a libp2p connection is open."""
        return bool(self._connections(peer))

    def paths(self, peer: PeerId) -> list[PeerPath]:
        """The open connections to a peer, the best first."""
        found = [self._path(peer, connection) for connection in self._connections(peer)]
        return sorted(found, key=lambda path: path.kind == "relayed")

    def direct_ends(self, peer: PeerId) -> list[tuple[int, bool]]:
        """The port here of each direct connection to a peer, and whether the peer dialled it."""
        direct = [one for one in self._connections(peer) if one.get_connection_type() == ConnectionType.DIRECT]
        return [(local_port(one.muxed_conn), not one.muxed_conn.is_initiator) for one in direct]

    def is_relayed(self, peer: PeerId) -> bool:
        """True when a peer is connected, and only through relays."""
        paths = self.paths(peer)
        return bool(paths) and all(path.kind == "relayed" for path in paths)

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

    async def search(self, peer: PeerId) -> None:
        """Like `connect`, and when what the book knows does not work, ask the directory once."""
        try:
            await self.connect(peer)
        except Unavailable as error:
            before = self.book.of(peer)
            if self.look_up is None or error.code != "unreachable":
                raise
            with trio.move_on_after(SEARCH_S):
                await self.look_up(peer)
            if set(self.book.of(peer)) <= set(before):
                raise
            await self.connect(peer)

    async def dial_direct(self, peer: PeerId, addresses: tuple[str, ...]) -> list[str]:
        """Race direct addresses until one is connected; why the others failed. The peer is connected or not."""
        failures: list[str] = []
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(self._race, peer, address, failures, failed, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
        return failures

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

    async def disconnect(self, peer: PeerId) -> None:
        """Close every connection to a peer."""
        try:
            with rim("disconnect"), trio.fail_after(HANDSHAKE_S):
                await self._host.disconnect(libp2p_id(peer))
        except Unavailable:
            return  # It was closed already.

    async def close(self) -> None:
        """At the very end: close what libp2p left open."""
        half_open.end_all(self.listen_port)
        for stream in list(self._sockets):
            await stream.close()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _connections(self, peer: PeerId) -> list[INetConn]:
        return self._host.get_network().get_connections(libp2p_id(peer))

    def _own_addresses(self) -> set[str]:
        """Where this node listens: another peer's private address may read the same, and is not to be reached there."""
        try:
            return {without_target(str(address)) for address in self._host.get_addrs()}
        except OSError as error:  # A closed listener has no address.
            raise Unavailable("this node does not listen any more: it ends", code="unreachable") from error

    def _path(self, peer: PeerId, connection: INetConn) -> PeerPath:
        with rim("addresses of a connection"):
            addresses = [str(address) for address in connection.get_transport_addresses()]
            is_relayed = connection.get_connection_type() == ConnectionType.RELAYED
        address = addresses[0] if addresses else ""
        if not is_relayed:
            return PeerPath("punched" if peer in self.punched else "direct", address)
        return PeerPath("relayed", address, relay_of(address))

    async def _dial(self, peer: PeerId) -> None:
        done = self._busy[peer] = trio.Event()
        try:
            await self._climb(peer)
        finally:
            del self._busy[peer]
            done.set()

    async def _climb(self, peer: PeerId) -> None:
        """Direct addresses first; relays join after a head start, or at once when there is nothing else."""
        own = self._own_addresses()
        known = [address for address in self.book.of(peer) if address not in own]
        direct = tuple(address for address in known if split_circuit(address) is None)
        circuits = [circuit for address in known if (circuit := split_circuit(address)) is not None]
        failures: list[str] = []
        async with trio.open_nursery() as nursery:

            async def go_direct() -> None:
                failures.extend(await self.dial_direct(peer, direct))
                ended.set()
                if self.is_connected(peer):
                    nursery.cancel_scope.cancel()

            ended = trio.Event()
            nursery.start_soon(go_direct)
            if circuits and self.dial_circuit is not None:
                with trio.move_on_after(HEAD_START_S):
                    await ended.wait()
                failures.extend(await self._dial_circuits(peer, circuits))
                if self.is_connected(peer):
                    nursery.cancel_scope.cancel()
        if not self.is_connected(peer):
            raise Unavailable(
                f"{peer_text(peer)} cannot be reached: {'; '.join(failures) or 'no address is known'}",
                code="unreachable",
            )

    async def _dial_circuits(self, peer: PeerId, circuits: list[tuple[PeerId, str]]) -> list[str]:
        failures: list[str] = []
        for relay, address in circuits:
            if self.is_connected(peer) or self.dial_circuit is None:
                break
            if relay in (peer, self._me):
                continue  # A circuit through ourselves leads to ourselves.
            self.book.learn(relay, (address,))
            self.dials += 1
            try:
                with trio.move_on_after(DIAL_S) as deadline:
                    await self.dial_circuit(relay, peer)
                if deadline.cancelled_caught:
                    failures.append(f"through {peer_text(relay)}: no answer within {DIAL_S:g} s")
            except (Unavailable, Refused) as error:
                self.failures += 1
                failures.append(f"through {peer_text(relay)}: {error.detail}")
        return failures

    async def _race(
        self, peer: PeerId, address: str, failures: list[str], failed: trio.Event, race: trio.CancelScope
    ) -> None:
        try:
            await self._dial_one(peer, address)
        except Unavailable as error:
            self.failures += 1
            failures.append(error.detail)
            failed.set()
            return
        if self.is_connected(peer):
            self.book.worked(peer, address)
            race.cancel()
            return
        failures.append(f"{address}: closed by the other side at once")
        failed.set()

    async def _dial_one(self, peer: PeerId, address: str) -> None:
        """One address: from the listening port when it leads out of the local network, and soon from any port too."""
        if not (self.listen_port and address.startswith("/ip4/") and is_global_address(address)):
            await self._dial_from(peer, address, None)
            return
        failures: list[Unavailable] = []
        answered: set[TrioTCPStream] = set()
        tried = trio.Event()
        is_refused = False
        async with trio.open_nursery() as nursery:

            async def go(source: tuple[str, int] | None) -> None:
                try:
                    await self._dial_from(peer, address, source, answered)
                    nursery.cancel_scope.cancel()
                except Unavailable as error:
                    failures.append(error)
                tried.set()

            nursery.start_soon(go, ("0.0.0.0", self.listen_port))
            with trio.move_on_after(BESIDE_S):
                await tried.wait()
            if answered:
                await tried.wait()  # A handshake that takes its time: from this port others see what our router does.
            answered = set()
            is_refused = bool(failures) and was_refused(failures[0])  # From one port is from all of them.
            if not is_refused:
                nursery.start_soon(go, None)
        if is_refused or len(failures) == 2:
            raise failures[0]

    async def _dial_from(
        self, peer: PeerId, address: str, source: tuple[str, int] | None, answered: set[TrioTCPStream] | None = None
    ) -> None:
        """From one local port, or from any. `answered` gets the socket once the other end has accepted it."""
        name = libp2p_id(peer)
        self.dials += 1
        opened: set[TrioTCPStream] = set() if answered is None else answered
        is_done = False
        try:
            with rim(address), trio.fail_after(DIAL_S), libp2p_patches.remember_sockets(opened):
                libp2p_patches.forget_failure(self._host, name)
                await dial(self._host, Multiaddr(f"{address}/p2p/{name}"), name, source)
            is_done = True
        finally:
            self._sockets.update(opened)
            if not is_done:
                await abort(stream.stream for stream in opened)

    def _foreign_protocol(self, name: ID, protocol: str) -> str | None:
        """The Shoal protocol that a peer announced instead of ours; None when it announced ours or none."""
        with rim("protocols of a peer"):
            announced = [str(known) for known in self._host.get_peerstore().get_protocols(name)]
        shoals = [known for known in announced if known.startswith("/shoal/") and known.count("/") == 3]
        is_side = protocol.count("/") > 3  # A protocol beside the sessions: not everybody of one network has it.
        is_ours = protocol in announced or (is_side and any(_network(known) == _network(protocol) for known in shoals))
        return None if not shoals or is_ours else shoals[0]


def _network(protocol: str) -> str:
    return protocol.split("/")[2]


def relay_of(text: str) -> PeerId | None:
    """The relay in a circuit's text, target or not; None for a direct address."""
    head, mark, _ = text.partition("/p2p-circuit")
    try:
        return peer_from_text(head.rpartition("/p2p/")[2]) if mark else None
    except Refused:
        return None
