"""A port that answers nothing, as one behind a router does: dials of it wait."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import trio


class SilentPort:
    """On the loopback. The kernel drops first packets while connections wait to be accepted, and one does."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.socket())
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        stack.enter_context(socket.create_connection(("127.0.0.1", self.port)))

    def wake(self) -> trio.SocketListener:
        """From now on it answers."""
        self._stack.enter_context(self._listener.accept()[0])
        self._listener.listen(8)
        return trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))


def free_port() -> int:
    """A port of the loopback that nobody uses just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
