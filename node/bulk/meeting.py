"""Handshakes, driven on the trio thread with a deadline: silent and slow strangers cost no worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node import entropy
from node.clock import Clock
from protocol.bulk.handshake import HANDSHAKE_BYTES_MAX, Fetcher, Holder, Met, Say, met_of, offers
from protocol.bulk.tickets import TicketOffice
from protocol.errors import Unavailable
from protocol.identity import Identity
from protocol.units import PeerId

MEETING_S: Final = 5.0
"""Deadline of one handshake, which takes two messages there and one back."""

LENGTH_BYTES: Final = 4

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]
"""The next frame's body."""


@dataclass(frozen=True, slots=True)
class Parlour:
    """What every handshake of this node needs."""

    network: str
    identity: Identity
    office: TicketOffice
    clock: Clock
    has_aes: bool

    async def as_fetcher(self, holder: PeerId, secret: bytes, send: Send, receive: Receive) -> Met:
        """Present a ticket; Unavailable when the other side is not the holder, or not in time."""
        machine = Fetcher(self.network, self.identity, holder, secret, entropy.seed(), offers(self.has_aes))
        with _in_time():
            await send(_frame(machine.open().message))
            effects = machine.receive(await receive())
            for effect in effects:
                if isinstance(effect, Say):
                    await send(_frame(effect.message))
            return met_of(effects)
        raise _too_slow()

    async def as_holder(self, send: Send, receive: Receive) -> Met:
        """Hear whoever presents a ticket; Unavailable when it is not good, or not in time."""
        machine = Holder(self.network, self.identity, self.office, entropy.seed(), self.has_aes)
        with _in_time():
            for effect in machine.receive(await receive(), self.clock.now()):
                if isinstance(effect, Say):
                    await send(_frame(effect.message))
            return met_of(machine.receive(await receive(), self.clock.now()))
        raise _too_slow()


async def receive_frame(sock: trio.socket.SocketType) -> bytes:
    """One frame from a socket, and not a byte more; Unavailable when it ends or is too long."""
    size = int.from_bytes(await _exactly(sock, LENGTH_BYTES), "big")
    if size > HANDSHAKE_BYTES_MAX:
        raise Unavailable(f"a handshake message of {size} bytes", code="bad_handshake")
    return await _exactly(sock, size)


async def send_frame(sock: trio.socket.SocketType, data: bytes) -> None:
    """Everything into a socket; Unavailable when it breaks."""
    view = memoryview(data)
    try:
        while view:
            view = view[await sock.send(view) :]
    except OSError as error:
        raise Unavailable(f"the connection broke: {error.strerror}", code="interrupted") from None


def has_fast_aes(path: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor has AES instructions; False where nobody says so."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(("flags", "Features")) and "aes" in line.split() for line in lines)


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def _in_time() -> trio.CancelScope:
    return trio.move_on_after(MEETING_S)


def _too_slow() -> Unavailable:
    return Unavailable(f"no handshake within {MEETING_S:g} s", code="bad_handshake")


async def _exactly(sock: trio.socket.SocketType, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        try:
            piece = await sock.recv(size - len(data))
        except OSError as error:
            raise Unavailable(f"the connection broke: {error.strerror}", code="interrupted") from None
        if not piece:
            raise Unavailable("it closed the connection during the handshake", code="interrupted")
        data += piece
    return bytes(data)
