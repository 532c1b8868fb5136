"""Attacks on the multiplexer: streams without end, windows ignored, frames too large, a peer that never reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from struct import pack
from typing import Final

import trio

from node.clock import Clock
from node.streams import frame, write_all
from protocol import wire
from protocol.errors import Unavailable
from protocol.overlay.peer_record import key_of
from protocol.overlay.questions import Find
from protocol.overlay.yamux_frames import CREDIT_MAX, FRAME_BYTES, Flag, Kind, header
from tests.attacks.ground import IS_LONG, Report
from tests.attacks.strangers import (
    STREAM_BYTES,
    Attack,
    Stranger,
    Target,
    crowd,
    data,
    opening,
    record,
    stranger,
)

FLOODERS: Final = 24 if IS_LONG else 10
"""Connections that pour in as much as they can: all cores are busy then, those of the attacker too."""

PING: Final = "/ipfs/ping/1.0.0"
MULTISTREAM: Final = b"\x13/multistream/1.0.0\n"


async def cut(target: Target, act: Callable[[Stranger], Awaitable[None]]) -> Report:
    """Greet, attack, and see whether the connection was cut."""
    async with stranger(target) as guest:
        await guest.greet()
        with suppress(Unavailable):
            await act(guest)
        return {"cut": await guest.cut_within(target.seconds)}


async def streams_left(target: Target) -> Report:
    """A thousand streams on one connection, opened and left."""

    async def act(guest: Stranger) -> None:
        for _ in range(1_000):
            await guest.pour(opening(guest.number()))
        await trio.sleep(target.seconds)

    return await cut(target, act)


async def rapid_reset(target: Target) -> Report:
    """Streams opened and reset at once, by the thousand."""

    async def act(guest: Stranger) -> None:
        for _ in range(200):
            numbers = [guest.number() for _ in range(100)]
            await guest.pour(b"".join(opening(n) + header(Kind.CREDIT, Flag.RESET, n, 0) for n in numbers))

    return await cut(target, act)


async def window_ignored(target: Target) -> Report:
    """One byte more than the window takes, and then megabytes."""

    async def act(guest: Stranger) -> None:
        number = guest.number()
        await guest.pour(opening(number) + data(number, bytes(STREAM_BYTES + 1)))
        for _ in range(500):
            await guest.pour(data(number, bytes(FRAME_BYTES)))

    return await cut(target, act)


async def windows_filled(target: Target) -> Report:
    """Each of many connections fills the windows of all its streams with what nobody reads."""
    sent = 0

    async def act(guest: Stranger) -> None:
        nonlocal sent
        numbers = [guest.number() for _ in range(120)]
        body = MULTISTREAM + b"\xff\x7f" + bytes(FRAME_BYTES - len(MULTISTREAM) - 2)
        for number in numbers:
            await guest.pour(opening(number) + data(number, body))
            for _ in range(STREAM_BYTES // FRAME_BYTES - 1):
                await guest.pour(data(number, bytes(FRAME_BYTES)))
                sent += FRAME_BYTES
        await trio.sleep(target.seconds)

    inside = await crowd(target, FLOODERS, act)
    return {"inside": inside, "mib": sent >> 20}


async def never_reads(target: Target) -> Report:
    """Many connections ask for echoes and answers, and read none."""
    sent = 0

    async def act(guest: Stranger) -> None:
        nonlocal sent
        await guest.greet()
        echoes = [await guest.open(PING) for _ in range(8)]
        guest.deaf()
        with trio.move_on_after(target.seconds + 3):
            while not guest.is_cut:
                for echo in echoes:
                    with trio.move_on_after(0.1):
                        await write_all(echo, bytes(32 * 1_024))
                        sent += 32 * 1_024

    inside = await crowd(target, FLOODERS, act)
    return {"inside": inside, "mib": sent >> 20}


async def tiny_windows(target: Target) -> Report:
    """Long answers, read into a window that opens by one byte at a time."""

    async def act(guest: Stranger) -> None:
        me = record(guest.identity, target.network, Clock().now())
        question = frame(wire.encode(Find(key_of(target.peer), me)))
        streams = [await guest.open(target.beside("find")) for _ in range(8)]
        for stream in streams:
            await write_all(stream, question)
        numbers = [stream.muxed_stream.state.id for stream in streams]  # type: ignore[attr-defined]
        with trio.move_on_after(target.seconds):
            while not guest.is_cut:
                await guest.pour(b"".join(header(Kind.CREDIT, 0, number, 1) for number in numbers) * 100)

    return await cut(target, act)


def frames(*words: bytes, times: int = 1) -> Attack:
    """Raw frames that break a rule of the multiplexer."""

    async def attack(target: Target) -> Report:
        async def act(guest: Stranger) -> None:
            for _ in range(times):
                for word in words:
                    await guest.pour(word)

        return await cut(target, act)

    return attack


async def forged_records(target: Target) -> Report:
    """Bytes that no key of this connection sealed, straight onto its socket."""

    async def act(guest: Stranger) -> None:
        sock = guest.muxed._carrier._socket  # type: ignore[attr-defined]
        with suppress(OSError):  # The victim cuts at the first of them.
            for size in (0, 1, 16, 65_535):
                await sock.send(pack("!H", size) + bytes(size))

    return await cut(target, act)


ATTACKS: Final[dict[str, Attack]] = {
    "a thousand streams left": streams_left,
    "rapid reset": rapid_reset,
    "window ignored": window_ignored,
    "windows filled": windows_filled,
    "never reads": never_reads,
    "tiny windows": tiny_windows,
    "frame of 4 GiB": frames(opening(1_001), header(Kind.DATA, 0, 1_001, CREDIT_MAX)),
    "frame for nobody": frames(header(Kind.DATA, 0, 99_999, 4) + b"evil", times=20_000),
    "frame of no kind": frames(header(Kind.DATA, 0, 0, 0).replace(b"\0\0", b"\0\x09", 1)),
    "credit without end": frames(opening(1_001), header(Kind.CREDIT, 0, 1_001, CREDIT_MAX), times=2),
    "pings without end": frames(header(Kind.PING, Flag.OPEN, 0, 7) * 100, times=200),
    "forged records": forged_records,
}
