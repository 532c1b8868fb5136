"""Where libp2p's world ends: its untyped errors, its peer ids and its host become ours here.

py-libp2p 0.8.1 lets about thirty exception types out of one call, some of them bare `Exception`s, and groups of those.
`rim` is the one place of the product that catches `Exception`; everything behind it sees `Unavailable`.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Final

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from node import libp2p_patches
from protocol.errors import LocalError, ShoalError, Unavailable
from protocol.identity import Identity, peer_from_text
from protocol.units import PeerId

CONNECTIONS_MAX: Final = 512
"""Connections of all kinds; each end costs about 60 kB and two file descriptors at most."""

CONNECTIONS_PER_PEER: Final = 2
"""Two peers that dial each other at the same time keep both."""

HANDSHAKE_S: Final = 10.0
"""Deadline of one dial, of the upgrade to Noise and yamux, and of opening a stream."""

CAUSE_MAX: Final = 300
"""Characters of an error of libp2p that are passed on: some of it may be a stranger's words."""

log: Final = logging.getLogger("shoal.transport")


@contextmanager
def rim(doing: str) -> Iterator[None]:
    """Turn whatever libp2p raises while `doing` something into Unavailable. Our own errors and cancellation pass."""
    try:
        yield
    except ShoalError:
        raise
    except Exception as error:
        cause = _cause(error)
        raise Unavailable(f"{doing}: {type(cause).__name__}: {cause!s:.{CAUSE_MAX}}", code="link") from error


def was_refused(error: Unavailable) -> bool:
    """Whether the other end's machine said that nobody listens there: a dial from another port hears the same."""
    return isinstance(_cause(error), ConnectionRefusedError)


def _cause(error: BaseException) -> BaseException:
    """The innermost of the errors that libp2p wrapped several times."""
    while isinstance(error, BaseExceptionGroup) or error.__cause__ is not None:
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error
    return error


def libp2p_id(peer: PeerId) -> ID:
    """libp2p's name of a peer."""
    return ID(bytes.fromhex("002408011220") + peer)


def peer_of(name: ID) -> PeerId:
    """Our name of a peer; Refused when its key is no Ed25519 key."""
    return peer_from_text(name.to_base58())


def remote_of(stream: INetStream) -> PeerId:
    """The authenticated peer at the other end of a stream."""
    return peer_of(stream.muxed_conn.peer_id)


def make_host(identity: Identity, listen: Sequence[str], noise_seed: bytes) -> IHost:
    """A host that speaks Noise over TCP and nothing else, under the identity's own key."""
    libp2p_patches.install()
    keys = create_new_key_pair(identity.seed)
    noise = NoiseTransport(keys, noise_privkey=X25519PrivateKey.from_bytes(noise_seed))
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},
        muxer_preference="YAMUX",
        listen_addrs=[Multiaddr(text) for text in listen],
        negotiate_timeout=int(HANDSHAKE_S),
        connection_config=ConnectionConfig(
            max_connections=CONNECTIONS_MAX,
            min_connections=0,
            low_watermark=0,
            high_watermark=CONNECTIONS_MAX,
            max_connections_per_peer=CONNECTIONS_PER_PEER,
            dial_timeout=HANDSHAKE_S,
        ),
    )
    libp2p_patches.dial_nobody_unasked(host)
    _contain(host)
    return host


def _contain(host: IHost) -> None:
    """What libp2p's own protocols raise about a stream ends that stream; else one bad peer would end the node."""
    network = host.get_network()
    if not isinstance(network, Swarm):
        raise LocalError(f"libp2p's network is a {type(network).__name__}, not a Swarm", code="libp2p_version")
    handle = network.common_stream_handler

    async def contained(stream: INetStream) -> None:
        try:
            with rim(f"stream {stream.get_protocol()}"):
                await handle(stream)
        except Unavailable as error:
            log.info("%s", error.detail)

    network.set_stream_handler(contained)


def remote_address(stream: INetStream) -> str:
    """Where the other end of a stream's connection is, as an address; empty through a relay."""
    with rim("address of a connection"):
        if stream.muxed_conn.get_connection_type() != ConnectionType.DIRECT:
            return ""
        found = stream.get_remote_address()
    if found is None:
        return ""
    ip, port = found
    return f"/{'ip6' if ':' in ip else 'ip4'}/{ip}/tcp/{port}"


def in_nursery(nursery: trio.Nursery, handler: StreamHandlerFn) -> StreamHandlerFn:
    """Run our own stream handler where its faults are ours, not libp2p's to swallow."""

    async def handle(stream: INetStream) -> None:
        done = trio.Event()

        async def run() -> None:
            try:
                await handler(stream)
            finally:
                done.set()

        nursery.start_soon(run)
        await done.wait()

    return handle


async def dial(host: IHost, address: Multiaddr, peer: ID, source: tuple[str, int] | None) -> None:
    """Connect to one address, from a local (ip, port) or from any. libp2p's own errors: use inside `rim`."""
    network = host.get_network()
    if isinstance(network, Swarm):
        await network.dial_addr(address, peer, source)


async def listen(host: IHost, addresses: Sequence[str], stack: AsyncExitStack) -> None:
    """Run the host on all addresses until the stack unwinds; Unavailable when one of them cannot be had."""
    for text in addresses:
        _claim_port(text)
    with rim(f"listen on {', '.join(addresses)}"):
        await stack.enter_async_context(host.run([Multiaddr(text) for text in addresses]))
        found = [address for listener in host.get_network().listeners.values() for address in listener.get_addrs()]
    if len(found) < len(addresses):
        raise Unavailable(
            f"only {len(found)} of {len(addresses)} addresses can be listened on: {', '.join(addresses)}",
            code="address_in_use",
            fix="Choose another port, or stop what uses it.",
        )


def listening_port(host: IHost) -> int:
    """The TCP port that a host listens on over IPv4; 0 when there is none."""
    for listener in host.get_network().listeners.values():
        for address in listener.get_addrs():
            parts = str(address).split("/")
            if len(parts) >= 5 and parts[1] == "ip4" and parts[3] == "tcp":
                return int(parts[4])
    return 0


def _claim_port(address: str) -> None:
    """Unavailable when somebody listens there already.

    libp2p listens with SO_REUSEPORT, so that dials can leave from the same port; two nodes that did so would share the
    port and each get a part of the connections."""
    parts = address.split("/")
    if len(parts) != 5 or parts[1] not in ("ip4", "ip6") or not parts[4].isdigit() or parts[4] == "0":
        return
    family = socket.AF_INET6 if parts[1] == "ip6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parts[2], int(parts[4])))
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {address}: {error.strerror}",
                code="address_in_use" if error.errno == errno.EADDRINUSE else "address_unusable",
                fix="Choose another port or address, or stop what uses it.",
            ) from error


def only_error(group: BaseExceptionGroup) -> BaseException:
    """The one error inside nested groups, or the group when there are several (or a cancellation, which is trio's)."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return group if isinstance(error, BaseExceptionGroup | trio.Cancelled) else error


def protocol_id(text: str) -> TProtocol:
    """A protocol's name with libp2p's type."""
    return TProtocol(text)
