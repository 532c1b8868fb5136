"""Attacks on gossip and on the directory: floods of every part of an RPC, forged and stale words, rubbish records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

import msgspec
import trio
from libp2p.abc import INetStream

from node import entropy
from node.clock import Clock
from node.streams import FrameReader, frame, read_some, write_all
from protocol import wire
from protocol.errors import RemoteViolation, Unavailable
from protocol.gossip import rpc as rpcs
from protocol.identity import Identity
from protocol.messages import Capability, Offer
from protocol.overlay.own_record import MEMBERS
from protocol.overlay.peer_record import key_of, topic_key
from protocol.overlay.questions import Find, Keep
from protocol.units import HOUR, SECOND, Digest
from protocol.wire import Signed
from tests.attacks.ground import Report
from tests.attacks.strangers import Attack, Stranger, Target, crowd, fresh_identity, record, say, stranger

TOPICS: Final = ("offers", "jobs", "heads")

_sequences = count(1)

Flood = Callable[[Stranger, INetStream], Awaitable[None]]


def topic(target: Target, name: str = "offers") -> str:
    return f"/shoal/{target.network}/{name}"


def names(number: int) -> tuple[bytes, ...]:
    """So many identifiers of statements that nobody ever said."""
    return tuple(entropy.seed()[:20] for _ in range(number))


def offer(target: Target, author: Identity, issued: int, life: int = 60 * SECOND) -> Signed:
    """An offer of nothing."""
    body = Offer(
        sequence=next(_sequences), issued=issued, expires=issued + life, roles=(), addresses=(),
        capability=Capability(0, 0, 0, 0, 0), executors=(), runtimes=(), slots=0, slots_free=0,
        price_per_hour=0, serves=(),
    )  # fmt: skip
    return wire.sign(author, target.network, "offer", body)


async def _listen(stream: INetStream) -> None:
    """Read what comes, as a neighbour does."""
    try:
        while await read_some(stream):
            continue
    except Unavailable:
        return


def flood(strangers: int, act: Flood) -> Attack:
    """Neighbours that follow all topics and then send this without a pause."""

    async def attack(target: Target) -> Report:
        sent = cut = 0

        async def one(guest: Stranger) -> None:
            nonlocal sent, cut
            stream = await guest.gossip()
            await say(stream, rpcs.Rpc(subscriptions=tuple((True, topic(target, name)) for name in TOPICS)))
            try:
                with trio.move_on_after(target.seconds):
                    while not guest.is_cut:
                        await act(guest, stream)
                        sent += 1
            except Unavailable:  # A stream may end before its connection.
                await guest.cut_within(target.seconds)
                raise
            finally:
                cut += guest.is_cut

        inside = await crowd(target, strangers, one)
        return {"inside": inside, "sent": sent, "cut": cut}

    return attack


async def ihave(guest: Stranger, stream: INetStream) -> None:
    await say(stream, rpcs.Rpc(ihave=((topic(guest.target), names(2_500)),)))


async def iwant(guest: Stranger, stream: INetStream) -> None:
    await say(stream, rpcs.Rpc(iwant=names(2_500)))


async def flapping(guest: Stranger, stream: INetStream) -> None:
    ours = topic(guest.target)
    await say(stream, rpcs.Rpc(graft=(ours,) * 50, prune=(rpcs.Prune(ours, 0, (bytes(38),) * 30),) * 20))


async def subscriptions(guest: Stranger, stream: INetStream) -> None:
    others = tuple((bool(number % 3), f"/shoal/{number}/{entropy.seed().hex()}") for number in range(600))
    await say(stream, rpcs.Rpc(subscriptions=others))


async def unwanted(guest: Stranger, stream: INetStream) -> None:
    await say(stream, rpcs.Rpc(idontwant=names(2_500)))


async def forged(guest: Stranger, stream: INetStream) -> None:
    """Somebody else's name on it."""
    false = msgspec.structs.replace(offer(guest.target, guest.identity, Clock().now()), signer=guest.target.peer)
    await say(stream, rpcs.Rpc(messages=(rpcs.Envelope(topic(guest.target), wire.encode(false)),)))


async def bad_signatures(guest: Stranger, stream: INetStream) -> None:
    """As many as fit one RPC: each costs the victim a look."""
    some = offer(guest.target, guest.identity, Clock().now())
    bad = [msgspec.structs.replace(some, signature=entropy.seed() * 2) for _ in range(100)]
    envelopes = tuple(rpcs.Envelope(topic(guest.target), wire.encode(one)) for one in bad)
    await say(stream, rpcs.Rpc(messages=envelopes))


async def of_many_authors(guest: Stranger, stream: INetStream) -> None:
    """Valid offers of authors that were never heard of, each signed by a new key."""
    ours = [offer(guest.target, fresh_identity(), Clock().now()) for _ in range(20)]
    envelopes = tuple(rpcs.Envelope(topic(guest.target), wire.encode(one)) for one in ours)
    await say(stream, rpcs.Rpc(messages=envelopes))


def dated(ahead: int) -> Flood:
    """Offers of another day: replayed, or of the future."""

    async def act(guest: Stranger, stream: INetStream) -> None:
        ours = [offer(guest.target, guest.identity, Clock().now() + ahead) for _ in range(20)]
        envelopes = tuple(rpcs.Envelope(topic(guest.target), wire.encode(one)) for one in ours)
        await say(stream, rpcs.Rpc(messages=envelopes))

    return act


def bytes_of(data: bytes) -> Flood:
    """Bytes that are no RPC."""

    async def act(guest: Stranger, stream: INetStream) -> None:
        await write_all(stream, data)
        await trio.sleep(0.1)

    return act


async def many_streams(target: Target) -> Report:
    """A neighbour that opens streams of gossip without end, and leaves each in the middle of a frame."""
    opened = 0

    async def act(guest: Stranger) -> None:
        nonlocal opened
        await guest.greet()
        with trio.move_on_after(target.seconds):
            while not guest.is_cut:
                stream = await guest.open("/meshsub/1.1.0")
                await write_all(stream, b"\xff\xff\x03" + bytes(60_000))
                opened += 1

    return {"inside": await crowd(target, 4, act), "opened": opened}


# ── the directory ────────────────────────────────────────────────────────────────────────────────────────────────────
async def _ask(guest: Stranger, name: str, question: Find | Keep) -> bytes:
    """The answer; empty when there is none."""
    try:
        stream = await guest.open(guest.target.beside(name))
        await write_all(stream, frame(wire.encode(question)))
        return await FrameReader(stream, guest.target.peer, 70_000).read() or b""
    except (Unavailable, RemoteViolation):
        return b""


async def false_records(target: Target) -> Report:
    """Records that are stale, of the future, for ever, somebody else's, forged, or under somebody else's key."""
    now = Clock().now()
    other = fresh_identity()

    def stale(who: Identity) -> Signed:
        return record(who, target.network, now - 3 * HOUR)

    def early(who: Identity) -> Signed:
        return record(who, target.network, now + HOUR)

    def endless(who: Identity) -> Signed:
        return record(who, target.network, now, expires=now + 10**15)

    def stolen(who: Identity) -> Signed:
        return record(other, target.network, now)

    def forged_one(who: Identity) -> Signed:
        return msgspec.structs.replace(record(who, target.network, now), signer=other.peer)

    def foreign(who: Identity) -> Signed:
        return record(who, "atoll", now)

    kept = asked = 0
    for make in (stale, early, endless, stolen, forged_one, foreign):
        for name in ("keep", "find"):
            async with stranger(target) as guest:
                await guest.greet()
                key, me = key_of(guest.identity.peer), make(guest.identity)
                answer = await _ask(guest, name, Keep(key, me) if name == "keep" else Find(key, me))
                asked, kept = asked + 1, kept + (answer[:1] == b"\0")
    async with stranger(target) as guest:
        await guest.greet()
        mine = record(guest.identity, target.network, now)
        answer = await _ask(guest, "keep", Keep(key_of(target.peer), mine))
        return {"asked": asked + 1, "kept": kept + (answer[:1] == b"\0")}


async def replayed_record(target: Target) -> Report:
    """A newer record of a peer is there; an older one is brought and must not take its place."""
    now = Clock().now()
    async with stranger(target) as guest:
        await guest.greet()
        key = topic_key(target.network, MEMBERS)
        new = record(guest.identity, target.network, now, topics=(key,))
        old = record(guest.identity, target.network, now - 60 * SECOND, topics=(key,))
        answers = [await _ask(guest, "keep", Keep(key, one)) for one in (new, old)]
        found = await _ask(guest, "find", Find(key, new))
        return {
            "took_new": b"\xc3" in answers[0][-3:],
            "took_old": b"\xc3" in answers[1][-3:],
            "is_old": old.body in found,
        }


async def questions(target: Target) -> Report:
    """Questions without a pause from many peers, each for the largest answer there is."""
    asked = answered = 0

    async def act(guest: Stranger) -> None:
        nonlocal asked, answered
        await guest.greet()
        me = record(guest.identity, target.network, Clock().now())
        with trio.move_on_after(target.seconds):
            while not guest.is_cut:
                asked += 1
                answer = await _ask(guest, "find", Find(Digest(entropy.seed()), me))
                answered += answer[:1] == b"\0"

    return {"inside": await crowd(target, 16, act, spread=2), "asked": asked, "answered": answered}


ATTACKS: Final[dict[str, Attack]] = {
    "IHAVE spam": flood(6, ihave),
    "IWANT spam": flood(6, iwant),
    "GRAFT and PRUNE flapping": flood(6, flapping),
    "subscriptions flood": flood(6, subscriptions),
    "IDONTWANT spam": flood(6, unwanted),
    "forged authors": flood(6, forged),
    "bad signatures": flood(6, bad_signatures),
    "authors without end": flood(6, of_many_authors),
    "statements of yesterday": flood(3, dated(-24 * HOUR)),
    "statements of tomorrow": flood(3, dated(24 * HOUR)),
    "RPC of a gigabyte": flood(3, bytes_of(b"\x80\x80\x80\x80\x04" + bytes(100_000))),
    "varint without end": flood(3, bytes_of(b"\xff" * 1_000)),
    "RPC of rubbish": flood(3, bytes_of(b"\xe8\x07" + bytes(range(250)) * 4)),
    "gossip streams without end": many_streams,
    "false records": false_records,
    "an older record": replayed_record,
    "questions without end": questions,
}
