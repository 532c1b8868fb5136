"""Every change to a py-libp2p internal, in one place. Each is for version 0.8.1 and refuses to touch another.

A patch names what it repairs, where upstream discusses it, and what a test measures. When the version moves on, the
guard fails, and each patch is looked at again: kept, changed or dropped.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator, MutableSet
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import trio
from libp2p.abc import IHost, INetStream
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network import swarm
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp import tcp
from multiaddr import Multiaddr

from node.mux.connection import Connection
from node.mux.net_streams import lean_read, lean_write
from node.reach import half_open
from protocol.errors import LocalError

VERSION: Final = "0.8.1"
"""The version that these patches were written and tested against."""

FRAME_BYTES: Final = 65_519
"""One Noise message carries 65519 bytes; a frame of 65536 made two of them (bulk 1.6 times slower)."""

SILENCE_MS: Final = 10_000
"""TCP_USER_TIMEOUT: unacknowledged data for 10 s ends a connection; the kernel's own default is about 15 minutes."""

KEEPALIVE_S: Final = 5
"""Idle seconds before the kernel probes, and seconds between its 3 probes: an idle dead link is noticed in 20 s."""


MUXER_VARIABLE: Final = "SHOAL_MUXER"
"""Environment variable; read once, when the patches are applied."""

STOCK_MUXER: Final = "stock"
"""Its value that leaves libp2p's own muxer in place."""

CLOSE_S: Final = 3.0
"""Deadline for closing everything at the end."""


def install() -> None:
    """Apply all patches, once per process or again without effect. LocalError for another version of libp2p."""
    found = importlib.metadata.version("libp2p")
    if found != VERSION:
        raise LocalError(
            f"libp2p {found} is installed, the patches are for {VERSION}",
            code="libp2p_version",
            fix=f"Install libp2p=={VERSION}, or review node/libp2p_patches.py for {found}.",
        )
    _dial_at_once()
    _fit_frames()
    _batch_window_updates()
    _notice_dead_links()
    _keep_cancelled_dials()
    _quiet()
    if os.environ.get(MUXER_VARIABLE) != STOCK_MUXER:
        _own_muxer()


def forget_failure(host: IHost, peer: ID) -> None:
    """Allow a dial at once: libp2p blocks a peer for 60 s after a failure, even when a new address is known."""
    network = host.get_network()
    if isinstance(network, swarm.Swarm):
        network._negative_peer_cache.evict(str(peer))


def dial_nobody_unasked(host: IHost) -> None:
    """Our dialer alone decides whom to dial and when to try again.

    libp2p 0.8.1 retries three times by itself, and its auto-connector dials every address it ever heard of until half
    of the connection limit is used, whatever the low watermark says. Whoever wants a stream just when the connection
    broke has the peer dialled at every address that it ever claimed, local ones too. (No upstream issue found.)"""

    async def stay_off() -> None:
        """`AutoConnector.start` would set the flag that all its work depends on."""

    network = host.get_network()
    if isinstance(network, swarm.Swarm):
        network.retry_config.max_retries = 0
        network.auto_connector.start = stay_off  # type: ignore[method-assign]
        network.new_stream = _on_a_connection(network)  # type: ignore[assignment, method-assign]


def _on_a_connection(network: swarm.Swarm) -> Callable[[ID], Coroutine[object, object, INetStream]]:
    plain = network.new_stream

    async def new_stream(peer: ID) -> INetStream:
        if not network.get_connections(peer):
            raise SwarmException(f"{peer} is not connected any more")
        return await plain(peer)

    return new_stream


def answer_the_door(
    host: IHost, handle: Callable[[ReadWriteCloser, Multiaddr], Coroutine[object, object, None]]
) -> None:
    """Our own handler takes every accepted connection (`node/door.py`).

    libp2p 0.8.1 holds a place of its limit for every connection that was ever accepted, until the host ends: with a
    limit of 8 nobody gets in from the ninth connection on (measured). It greets any number at a time from one address,
    and accepted connections use up what is needed for dialling. (No upstream issue found.)"""
    network = host.get_network()
    if isinstance(network, swarm.Swarm):
        network._handle_inbound_connection = handle  # type: ignore[assignment, method-assign]


async def close_listeners(host: IHost) -> None:
    """Close what `host.run()` leaves open and accepting at its end (observed with 0.8.1). Runs even when cancelled."""
    with trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True):
        await host.close()
        network = host.get_network()
        if isinstance(network, swarm.Swarm):
            for listener in list(network.listeners.values()):
                await listener.close()


def _dial_at_once() -> None:
    """`connect()` waited 250 ms before the first dial even with one address (py-libp2p #384 and its successors)."""
    swarm._HAPPY_EYEBALLS_DELAY = 0.0


def _fit_frames() -> None:
    """A yamux frame fits one Noise message (py-libp2p #1269, #1270 discuss the window, not the frame)."""
    yamux.MAX_MESSAGE_SIZE = FRAME_BYTES


def _own_muxer() -> None:
    """Yamux is ours: libp2p 0.8.1 holds whatever a peer pushes (300 MiB into a window of 256 KiB), polls for credit
    every 10 ms, gives up after 5 s, and is far slower. The class is hard-coded where connections are upgraded.

    NetStream takes a lock, which waits a turn of the scheduler, for every look at its state; on our streams the state
    is looked at without. (py-libp2p #1269, #1270 and #1337 discuss parts of it.)"""
    muxer_multistream.Yamux = Connection  # type: ignore[attr-defined, assignment]
    NetStream.read = lean_read  # type: ignore[method-assign]
    NetStream.write = lean_write  # type: ignore[method-assign]


def _batch_window_updates() -> None:
    """A window update for every read cost three encrypted frames per small message; at half a window it costs none."""
    os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"


_plain_stream_init: Final = TrioTCPStream.__init__

_dialled: Final[ContextVar[MutableSet[TrioTCPStream] | None]] = ContextVar("dialled", default=None)


@contextmanager
def remember_sockets(streams: MutableSet[TrioTCPStream]) -> Iterator[None]:
    """Put every TCP stream that is dialled in this block into `streams`.

    A connection whose closing is interrupted by the end of its host leaves its socket open (libp2p 0.8.1): the owner
    of `streams` closes it then. One whose handshake fails is left open until it is collected."""
    token = _dialled.set(streams)
    try:
        yield
    finally:
        _dialled.reset(token)


def _notice_dead_links() -> None:
    """A cable that is pulled ends the connection within seconds, dialled or accepted (libp2p sets no socket option)."""

    def init(self: TrioTCPStream, stream: trio.SocketStream) -> None:
        _plain_stream_init(self, stream)
        _set_timeouts(stream)
        streams = _dialled.get()
        if streams is not None:
            streams.add(self)

    TrioTCPStream.__init__ = init  # type: ignore[method-assign]


def _keep_cancelled_dials() -> None:
    """A cancelled dial from a port is kept for the next between the same two (`node/reach/half_open.py`). libp2p 0.8.1
    leaves its socket to the garbage collector: the port stays taken, for no one. (No upstream issue found.)"""

    async def open_from(host: str, port: int, source: tuple[str, int]) -> trio.SocketStream:
        try:
            return await half_open.open_from(host, port, source)
        except OSError as error:
            raise OpenConnectionError(f"no connection to {host}:{port} from port {source[1]}: {error}") from error

    tcp._open_tcp_stream_from = open_from


def _quiet() -> None:
    """libp2p logs every lost connection as an error, and some of its loggers set a level of their own."""
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("libp2p.")]:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)


def _set_timeouts(stream: trio.SocketStream) -> None:
    sock = stream.socket
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
