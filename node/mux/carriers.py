"""What a muxer's bytes travel on: Noise on a TCP socket of our own, Noise on anything else, or any secured connection.

The first two take the keys and counters out of py-libp2p's finished handshake and do the records themselves, many in
one pass. After that nobody else may read or write the secured connection.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Final, Protocol, cast

import trio
from libp2p.abc import ISecureConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from protocol.overlay.noise_records import Opener, Sealer
from protocol.units import KIB, PeerId

RECEIVE_BYTES: Final = 256 * KIB
"""Bytes that one call takes from a socket."""

BURSTS: Final = 2
"""Full reads in a row before other tasks run."""

_received: Final = memoryview(bytearray(RECEIVE_BYTES))
"""Shared by all sockets: it is emptied before anything else runs."""


class Carrier(ABC):
    """Sends and receives plain bytes, in order."""

    @abstractmethod
    def send_now(self, plain: bytes) -> bool:
        """Send without waiting. False when something is left, for `flush`; nothing may be sent before that ended."""

    @abstractmethod
    async def flush(self) -> None:
        """Send what is left. Raises what the connection raises when it broke."""

    @abstractmethod
    async def receive(self) -> list[bytes]:
        """What came next, in pieces; empty at the end. RemoteViolation when it was forged."""


class SocketCarrier(Carrier):
    """Noise on a TCP socket: one system call for many records, both ways."""

    def __init__(self, socket: trio.socket.SocketType, sealer: Sealer, opener: Opener, early: bytes) -> None:
        self._socket = socket
        self._sealer = sealer
        self._opener = opener
        self._early = early
        self._left = memoryview(b"")
        self._burst = 0

    def send_now(self, plain: bytes) -> bool:
        sealed = memoryview(self._sealer.seal(plain))
        try:
            sent = os.write(self._socket.fileno(), sealed)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = 0  # It is broken: flush meets the same error where it can be told.
        self._left = sealed[sent:]
        return not self._left

    async def flush(self) -> None:
        while self._left:
            sent = await self._socket.send(self._left)
            self._left = self._left[sent:]

    async def receive(self) -> list[bytes]:
        if self._early:
            early, self._early = self._early, b""
            return [early]
        while True:
            try:
                size = os.readv(self._socket.fileno(), [_received])
            except (BlockingIOError, InterruptedError):
                self._burst = 0
                await trio.lowlevel.wait_readable(self._socket)
                continue
            if size == 0:
                return []
            records = self._opener.open(_received[:size])
            self._burst += 1
            if self._burst >= BURSTS:
                self._burst = 0
                await trio.lowlevel.checkpoint()
            if records:
                return records


class RecordCarrier(Carrier):
    """Noise on any raw connection, a circuit through a relay for one."""

    def __init__(self, raw: ReadWriteCloser, sealer: Sealer, opener: Opener, early: bytes) -> None:
        self._raw = raw
        self._sealer = sealer
        self._opener = opener
        self._early = early
        self._left = b""

    def send_now(self, plain: bytes) -> bool:
        self._left = bytes(self._sealer.seal(plain))
        return False

    async def flush(self) -> None:
        left, self._left = self._left, b""
        if left:
            await self._raw.write(left)

    async def receive(self) -> list[bytes]:
        if self._early:
            early, self._early = self._early, b""
            return [early]
        while True:
            data = await self._raw.read(RECEIVE_BYTES)
            if not data:
                return []
            records = self._opener.open(memoryview(data))
            if records:
                return records


class SecuredCarrier(Carrier):
    """Any secured connection, by its own read and write."""

    def __init__(self, secured: ISecureConn) -> None:
        self._secured = secured
        self._left = b""

    def send_now(self, plain: bytes) -> bool:
        self._left = plain
        return False

    async def flush(self) -> None:
        left, self._left = self._left, b""
        if left:
            await self._secured.write(left)

    async def receive(self) -> list[bytes]:
        data = await self._secured.read()
        return [data] if data else []


class _Cipher(Protocol):
    """One direction of a finished handshake, as the Noise library keeps it."""

    k: bytes
    n: int


class _Ciphers(Protocol):
    """Both directions."""

    cipher_state_encrypt: _Cipher
    cipher_state_decrypt: _Cipher


def carrier_for(secured: ISecureConn, peer: PeerId) -> Carrier:
    """The fastest that fits the connection."""
    if not isinstance(secured, SecureSession) or not isinstance(secured.conn, NoiseTransportReadWriter):
        return SecuredCarrier(secured)
    noise = cast("_Ciphers", secured.conn.noise_state.noise_protocol)
    ours, theirs = noise.cipher_state_encrypt, noise.cipher_state_decrypt
    sealer, opener = Sealer(ours.k, ours.n), Opener(peer, theirs.k, theirs.n)
    early = secured._drain(None)
    raw = secured.conn.read_writer.read_write_closer
    if isinstance(raw, RawConnection) and isinstance(raw.stream, TrioTCPStream):
        return SocketCarrier(raw.stream.stream.socket, sealer, opener, early)
    return RecordCarrier(raw, sealer, opener, early)
