"""Attacks on sessions and questions: words out of turn, numbers that lie, and slow streams of every protocol."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio
from libp2p.abc import INetStream

from node import entropy
from node.sessions import PROTOCOL_VERSION
from node.streams import frame, write_all
from protocol import wire
from protocol.errors import Unavailable
from protocol.greetings import Ack, Skip
from protocol.messages import BlocksRequest, Message
from tests.attacks.ground import Report
from tests.attacks.strangers import (
    Attack,
    Stranger,
    Target,
    crowd,
    fresh_identity,
    hello,
    silence_after,
    stranger,
)

SESSION: Final = "the session"
QUESTIONS: Final = ("find", "keep", "ticket", "statement", "dial-back")
PROTOCOLS: Final = (
    SESSION, *QUESTIONS, "bulk", "ping", "/meshsub/1.2.0", "/libp2p/circuit/relay/0.2.0/hop",
    "/libp2p/circuit/relay/0.2.0/stop", "/libp2p/dcutr", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0",
)  # fmt: skip
"""Everything that a stranger may open a stream for."""


def full(target: Target, name: str) -> str:
    """A protocol's full name on this network."""
    return target.session if name == SESSION else name if name.startswith("/") else target.beside(name)


def said(*messages: Message) -> bytes:
    return b"".join(frame(wire.encode(message)) for message in messages)


def words(make: Callable[[Target], bytes]) -> Attack:
    """Greet, say this in the session, and see whether that ended the connection."""

    async def attack(target: Target) -> Report:
        async with stranger(target) as guest:
            stream = await guest.open(target.session)
            with suppress(Unavailable):
                await write_all(stream, make(target))
            return {"cut": await guest.cut_within(target.seconds)}

    return attack


async def many_hellos(target: Target) -> Report:
    """Greetings by the thousand, each on a stream of its own, each of another session."""
    greeted = 0

    async def act(guest: Stranger) -> None:
        nonlocal greeted
        with trio.move_on_after(target.seconds + 2):
            while not guest.is_cut:
                stream = await guest.greet()
                greeted += 1
                with trio.move_on_after(0.5):
                    await stream.reset()

    await crowd(target, 4, act)
    return {"greeted": greeted}


async def one_session_twice(target: Target) -> Report:
    """The same peer greets with one session on two connections, and speaks on both."""
    who, session, taken = fresh_identity(), entropy.seed()[:16], 0
    async with stranger(target, who) as first, stranger(target, who) as second:
        for _ in range(20):
            for guest in (first, second):
                try:
                    stream = await guest.open(target.session)
                    await write_all(stream, said(hello(target, session=session), *[BlocksRequest(0)] * 40))
                    taken += 1
                except Unavailable:
                    continue
        return {"taken": taken, "cut": first.is_cut and second.is_cut}


async def silent_peer(target: Target) -> Report:
    """Peers that finish the handshake and never greet."""
    cut = 0

    async def act(guest: Stranger) -> None:
        nonlocal cut
        if await guest.cut_within(target.seconds):
            cut += 1

    return {"inside": await crowd(target, 40, act, spread=4), "cut": cut}


async def slow(target: Target) -> Report:
    """Sixteen peers open eight streams of each protocol and send a byte now and then."""
    opened = 0

    async def drip(stream: INetStream) -> None:
        try:
            for byte in b"\x00\x00\x01\x00" + bytes(1_000):
                await write_all(stream, bytes((byte,)))
                await trio.sleep(0.25)
        except Unavailable:
            return

    async def act(guest: Stranger) -> None:
        nonlocal opened
        await guest.greet()
        async with trio.open_nursery() as nursery:
            for name in PROTOCOLS:
                for _ in range(8):
                    try:
                        stream = await guest.open(full(target, name))
                    except Unavailable:
                        continue
                    opened += 1
                    nursery.start_soon(drip, stream)
            await trio.sleep(target.seconds + 2)
            nursery.cancel_scope.cancel()

    return {"inside": await crowd(target, 20, act, spread=2), "opened": opened}


async def slow_questions(target: Target) -> Report:
    """Enough peers that begin to ask a question and do not end to fill every place where questions are answered."""
    opened = 0

    async def act(guest: Stranger) -> None:
        nonlocal opened
        await guest.greet()
        for _ in range(8):
            stream = await guest.open(target.beside("find"))
            await write_all(stream, b"\x00\x00\x40\x00")
            opened += 1
        await trio.sleep(target.seconds + 2)

    return {"inside": await crowd(target, 24, act, spread=2), "opened": opened}


async def oversized(target: Target) -> Report:
    """Each protocol is told that four gigabytes come; then some of them do."""
    ended = opened = 0
    async with stranger(target) as keeper:
        await keeper.greet()
        for name in PROTOCOLS:
            for head in (b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x0f", b"\x80" * 64):
                async with stranger(target) as guest:
                    try:
                        await guest.greet()
                        stream = await guest.open(full(target, name))
                        opened += 1
                        await write_all(stream, head + bytes(200_000))
                    except Unavailable:
                        ended += 1
                        continue
                    ended += guest.is_cut or await silence_after(stream, 0.05)
    return {"opened": opened, "ended": ended}


async def identify_pushed(target: Target) -> Report:
    """Peers that push a megabyte of addresses and protocols about themselves, again and again."""
    pushed = 0
    entry = b"\x12\x08\x04\x7f\x00\x00\x01\x06\x10\x00" + b"\x1a\x20" + b"/x" * 16

    async def act(guest: Stranger) -> None:
        nonlocal pushed
        await guest.greet()
        for _ in range(10):
            body = entry * 24_000
            length = bytes((len(body) & 0x7F | 0x80, len(body) >> 7 & 0x7F | 0x80, len(body) >> 14))
            with trio.move_on_after(target.seconds):
                stream = await guest.open("/ipfs/id/push/1.0.0")
                await write_all(stream, length + body)
                pushed += 1

    return {"inside": await crowd(target, 8, act), "pushed": pushed}


ATTACKS: Final[dict[str, Attack]] = {
    "Hello of another network": words(lambda target: said(hello(target, network="atoll"))),
    "Hello of another version": words(lambda target: said(hello(target, version=PROTOCOL_VERSION + 1))),
    "a second Hello": words(lambda target: said(hello(target), hello(target))),
    "no Hello": words(lambda target: said(BlocksRequest(0))),
    "Ack of the future": words(lambda target: said(hello(target), Ack(bytes(16), 10**12))),
    "Skip backwards": words(lambda target: said(hello(target), BlocksRequest(0), BlocksRequest(0), Skip(1))),
    "gaps without end": words(
        lambda target: said(hello(target, first=2**62), Skip(2**62), BlocksRequest(0), *map(Skip, [2**62] * 5_000))
    ),
    "rubbish in a session": words(lambda target: said(hello(target)) + frame(b"\xc1" * 500)),
    "a frame too long": words(lambda target: said(hello(target)) + b"\xff\xff\xff\xff"),
    "Hellos without end": many_hellos,
    "one session twice": one_session_twice,
    "silent peers": silent_peer,
    "slow streams": slow,
    "slow questions": slow_questions,
    "oversized messages": oversized,
    "identify pushed": identify_pushed,
}
