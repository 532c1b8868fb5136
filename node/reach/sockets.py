"""The local port under a libp2p connection, which libp2p itself does not tell."""

from __future__ import annotations

from typing import Final

import trio

_LAYERS: Final = ("secured_conn", "conn", "read_writer", "raw_conn", "connection", "stream")
"""Names under which the layers of a connection keep the one below: muxer, Noise session, raw connection, TCP stream."""

_DEPTH: Final = 8
"""Layers looked through; a connection has five."""


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
