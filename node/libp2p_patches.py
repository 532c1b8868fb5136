"""Every change to a py-libp2p internal, in one place. Each is for version 0.8.1 and refuses to touch another.

A patch names what it repairs, where upstream discusses it, and what a test measures. When the version moves on, the
guard fails, and each patch is looked at again: kept, changed or dropped.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from weakref import WeakSet

import trio
from libp2p.abc import IHost
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network import swarm
from libp2p.peer.id import ID
from libp2p.pubsub import pubsub, rpc_queue
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from multiaddr import Multiaddr

from protocol.errors import LocalError

VERSION: Final = "0.8.1"
"""The version that these patches were written and tested against."""

FRAME_BYTES: Final = 65_519
"""One Noise message carries 65519 bytes; a frame of 65536 made two of them (bulk 1.6 times slower)."""

QUEUE_ITEMS: Final = 1_024
"""Outbound RPCs per peer and messages per subscription; at 32 a burst of 100 loses 84 (libp2p 0.8.1 has no setting)."""

SILENCE_MS: Final = 10_000
"""TCP_USER_TIMEOUT: unacknowledged data for 10 s ends a connection; the kernel's own default is about 15 minutes."""

KEEPALIVE_S: Final = 5
"""Idle seconds before the kernel probes, and seconds between its 3 probes: an idle dead link is noticed in 20 s."""


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
    _widen_queues()
    _notice_dead_links()
    _settle_meshes()
    _quiet()


def agree_on_ids(router: GossipSub, message_id: Callable[[rpc_pb2.Message], bytes]) -> None:
    """IHAVE names a statement as the cache of seen statements does.

    libp2p 0.8.1 keys the cache that it announces from by origin and number, whatever `msg_id_constructor` says, so that
    no announced id was ever a seen one: each was asked for and sent again, to peers that had it. (No upstream issue
    found.)
    """
    router.mcache = _MessageCache(router.mcache.window_size, router.mcache.history_size, message_id)


class _MessageCache(MessageCache):
    """A message cache with our ids."""

    def __init__(self, window: int, history: int, message_id: Callable[[rpc_pb2.Message], bytes]) -> None:
        super().__init__(window, history)
        self._message_id = message_id

    def put(self, msg: rpc_pb2.Message) -> None:
        """Remember a statement, once."""
        known = self._message_id(msg)
        if known not in self.msgs:
            self.msgs[known] = msg
            self.history[0].append(CacheEntry(known, msg.topicIDs))


def forget_failure(host: IHost, peer: ID) -> None:
    """Allow a dial at once: libp2p blocks a peer for 60 s after a failure, even when a new address is known."""
    network = host.get_network()
    if isinstance(network, swarm.Swarm):
        network._negative_peer_cache.evict(str(peer))


def dial_nobody_unasked(host: IHost) -> None:
    """Our dialer alone decides whom to dial and when to try again.

    libp2p 0.8.1 retries three times by itself, and its auto-connector dials every address it ever heard of until half
    of the connection limit is used, whatever the low watermark says."""

    async def stay_off() -> None:
        """`AutoConnector.start` would set the flag that all its work depends on."""

    network = host.get_network()
    if isinstance(network, swarm.Swarm):
        network.retry_config.max_retries = 0
        network.auto_connector.start = stay_off  # type: ignore[method-assign]


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


def stop_seen_cache(messages: pubsub.Pubsub) -> None:
    """End the thread that every Pubsub starts for its cache of seen messages, and never ends."""
    messages.seen_messages.stop()


def _dial_at_once() -> None:
    """`connect()` waited 250 ms before the first dial even with one address (py-libp2p #384 and its successors)."""
    swarm._HAPPY_EYEBALLS_DELAY = 0.0


def _fit_frames() -> None:
    """A yamux frame fits one Noise message (py-libp2p #1269, #1270 discuss the window, not the frame)."""
    yamux.MAX_MESSAGE_SIZE = FRAME_BYTES


def _batch_window_updates() -> None:
    """A window update for every read cost three encrypted frames per small message; at half a window it costs none."""
    os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"


def _widen_queues() -> None:
    """Queues of 32 dropped bursts without a word."""
    pubsub.SUBSCRIPTION_CHANNEL_SIZE = QUEUE_ITEMS
    rpc_queue.PriorityQueue.__init__.__defaults__ = (QUEUE_ITEMS,)
    rpc_queue.RpcQueue.__init__.__defaults__ = (QUEUE_ITEMS, rpc_queue.DefaultMaxMessageSize)


_plain_stream_init: Final = TrioTCPStream.__init__

_dialled: Final[ContextVar[WeakSet[TrioTCPStream] | None]] = ContextVar("dialled", default=None)


@contextmanager
def remember_sockets(streams: WeakSet[TrioTCPStream]) -> Iterator[None]:
    """Put every TCP stream that is dialled in this block into `streams`.

    A connection whose closing is interrupted by the end of its host leaves its socket open (libp2p 0.8.1): the owner
    of `streams` closes it then."""
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


def _settle_meshes() -> None:
    """A mesh of the right size is left alone.

    libp2p 0.8.1 grafts two peers more each heartbeat while scores are equal, above 12 cuts the mesh to 6, and forgets
    whom it pruned while they refuse it for 60 s. With more than 12 connections meshes starved: in a clique of 16, peers
    got 1 or 2 of 16 statements. The specification grafts so once a minute, below a median score that ours never reach,
    for only faults count. (No upstream issue found.)"""

    def leave_alone(self: GossipSub, topic: str, peers_to_graft: defaultdict[ID, list[str]]) -> int:
        return 0

    GossipSub._perform_opportunistic_grafting = leave_alone  # type: ignore[method-assign]


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
