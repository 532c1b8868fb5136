"""The line to a router that speaks PCP or NAT-PMP: one UDP socket, connected, so that nobody else's words come in."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from protocol.errors import Unavailable
from protocol.overlay.pcp import ANNOUNCE_PORT, DATAGRAM_MAX, PORT


class RouterLine:
    """Datagrams to and from one router. Open with `open_line`."""

    def __init__(self, sock: trio.socket.SocketType, client_ip: str, gateway: str) -> None:
        self._socket = sock
        self.client_ip = client_ip
        """Our own address towards the router."""
        self.gateway = gateway

    async def send(self, data: bytes) -> bool:
        """False when an earlier datagram came back: nobody listens there. A lost one is repeated by who sent it."""
        try:
            await self._socket.send(data)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # No route for the moment, or no buffer: as good as lost on the way.
        return True

    async def receive(self) -> bytes | None:
        """The next datagram of the router; None when it says that nobody listens there, empty when it is gone."""
        try:
            return await self._socket.recv(DATAGRAM_MAX + 1)
        except ConnectionRefusedError:
            return None
        except OSError:
            return b""  # The router is gone for the moment: whoever asked asks again.

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


async def open_line(gateway: str, port: int = PORT) -> RouterLine:
    """A line to a router. Unavailable when this machine has no way to it."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        await sock.connect((gateway, port))
    except OSError as error:
        sock.close()
        raise Unavailable(f"no way to the router {gateway}: {error.strerror}", code="no_route") from error
    return RouterLine(sock, str(sock.getsockname()[0]), gateway)


async def hear_announcements(gateway: str, heard: Callable[[bytes], Awaitable[None]]) -> None:
    """Tell what the router says to everybody on port 5350 (RFC 6887 §14.1.1), until cancelled.

    Another program may hold the port: then only questions notice a restart, a minute later."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            await sock.bind(("", ANNOUNCE_PORT))
            while True:
                data, sender = await sock.recvfrom(DATAGRAM_MAX + 1)
                if sender[0] == gateway:
                    await heard(data)
