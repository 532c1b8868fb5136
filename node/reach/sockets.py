"""The sockets under libp2p's connections: their local port, which it does not tell, and an end without a trace."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Final

import trio

_LAYERS: Final = ("secured_conn", "conn", "read_writer", "raw_conn", "connection", "stream")
"""Names under which the layers of a connection keep the one below: muxer, Noise session, raw connection, TCP stream."""

_DEPTH: Final = 8
"""Layers looked through; a connection has five."""


_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no second at all."""


async def abort(streams: Iterable[trio.SocketStream]) -> None:
    """End connections by a reset. An orderly end keeps the pair of ports for a minute (TIME_WAIT), and one whose
    handshake failed is not ended by libp2p at all: until then no dial between the same two ports can begin."""
    with trio.CancelScope(shield=True):
        for stream in streams:
            try:
                reset_at_end(stream.socket)
            except OSError:
                continue  # Closed in the meantime.
            await trio.aclose_forcefully(stream)


def reset_at_end(sock: socket.socket | trio.socket.SocketType) -> None:
    """The end of this connection will be a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


def local_port(connection: object) -> int:
    """The TCP port on which a muxed connection ends here; 0 when there is no socket of its own (through a relay)."""
    layer: object = connection
    for _ in range(_DEPTH):
        if isinstance(layer, trio.SocketStream):
            try:
                return int(layer.socket.getsockname()[1])
            except OSError:
                return 0  # Closed in the meantime.
        below = next((getattr(layer, name) for name in _LAYERS if getattr(layer, name, None) is not None), None)
        if below is None:
            return 0
        layer = below
    return 0
