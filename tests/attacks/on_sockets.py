"""Attacks below our protocols: crowds, silence, half a handshake, rubbish, on the control port and on the data port."""

from __future__ import annotations

from typing import Final

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.swarm import Swarm

from node import entropy
from node.bulk.meeting import receive_frame, send_frame
from node.libp2p_rim import libp2p_id, make_host, rim
from node.streams import FrameReader, frame, write_all
from protocol import wire
from protocol.bulk.handshake import Fetcher, Finish, Open, offers
from protocol.bulk.tickets import TicketReply, TicketRequest
from protocol.errors import Unavailable
from tests.attacks.ground import BLOB, IS_LONG, Report
from tests.attacks.strangers import Attack, Target, count_ended, fresh_identity, knock, source, stranger

MULTISTREAM: Final = b"\x13/multistream/1.0.0\n"
NOISE: Final = b"\x07/noise\n"
CONNECTS: Final = 10_000 if IS_LONG else 1_500
SILENT: Final = 500
GREETINGS: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    bytes(range(256)) * 40,
    b"\xff" * 65_536,
    b"\x13/multistream/1.0.1\n",
    MULTISTREAM + b"\xff\xff\xff\xff\x7f",
    MULTISTREAM + b"\x09/plain/1\n" * 2_000,
    MULTISTREAM + NOISE + b"\xff\xff" + bytes(65_535),
    b"",
)
"""What strangers say who are no peers."""


async def connects(target: Target) -> Report:
    """Ten thousand TCP connections, a hundred at a time, each closed at once."""
    opened = 0
    limit = trio.CapacityLimiter(100)
    address = source()

    async def one() -> None:
        nonlocal opened
        async with limit:
            try:
                async with await knock(target, address):
                    opened += 1
            except OSError:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTS):
            nursery.start_soon(one)
    return {"opened": opened, "tried": CONNECTS}


async def _gather(target: Target, count: int, addresses: int, says: bytes = b"", port: int = 0) -> Report:
    """So many connections that say a little and then nothing, held for the time of the attack."""
    sources = [source() for _ in range(addresses)]
    streams: list[trio.SocketStream] = []

    async def one(number: int) -> None:
        try:
            stream = await knock(target, sources[number % addresses], port)
            streams.append(stream)
            await stream.send_all(says)
        except (OSError, trio.BrokenResourceError):
            return

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    try:
        return {"opened": len(streams), "ended": await count_ended(streams, target.seconds)}
    finally:
        for stream in streams:
            with trio.move_on_after(0):
                await stream.aclose()


async def silent(target: Target) -> Report:
    """Sockets that never say anything."""
    return await _gather(target, SILENT, 1)


async def half_negotiated(target: Target) -> Report:
    """The first words of the negotiation, and no more, from many addresses."""
    return await _gather(target, 200, 20, MULTISTREAM)


async def half_noise(target: Target) -> Report:
    """Noise's first message, which makes the victim answer with a signature, and no more."""
    return await _gather(target, 200, 20, MULTISTREAM + NOISE + b"\x00\x20" + entropy.seed())


async def no_muxer(target: Target) -> Report:
    """Noise to its end, and then silence where the muxer is to be agreed on."""
    secured = 0

    async def one(address: str) -> None:
        nonlocal secured
        host = make_host(fresh_identity(), (), entropy.seed())
        network = host.get_network()
        assert isinstance(network, Swarm)
        try:
            stream = await knock(target, address)
            with rim("noise"), trio.move_on_after(target.seconds + 5):
                raw = RawConnection(TrioTCPStream(stream), True)
                await network.upgrader.upgrade_security(raw, True, libp2p_id(target.peer))
                secured += 1
                await trio.sleep(target.seconds)
            await stream.aclose()
        except (OSError, Unavailable):
            return

    async with trio.open_nursery() as nursery:
        addresses = [source() for _ in range(4)]
        for number in range(48):
            nursery.start_soon(one, addresses[number % 4])
    return {"secured": secured}


async def rubbish(target: Target) -> Report:
    """Other protocols, endless names, oversized messages."""
    told = {"ended": 0.0, "opened": 0.0}
    for says in GREETINGS * 3:
        found = await _gather(target, 5, 5, says) if says else await _gather(target, 1, 1)
        told = {name: told[name] + found[name] for name in told}
    return told


# ── the data port ────────────────────────────────────────────────────────────────────────────────────────────────────
async def data_silent(target: Target) -> Report:
    """Silence on the data port, from more sockets than may wait there."""
    return await _gather(target, SILENT, 10, port=target.data_port)


async def data_rubbish(target: Target) -> Report:
    """Frames too long, frames of nothing, frames that are no handshake."""
    told = {"ended": 0.0, "opened": 0.0}
    for says in (
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x04evil",
        bytes(4_096),
        wire.encode(Finish(bytes(64), bytes(32))),
    ):
        found = await _gather(target, 40, 4, says, target.data_port)
        told = {name: told[name] + found[name] for name in told}
    return told


async def data_replayed(target: Target) -> Report:
    """A handshake that took place is said again, word for word; and tickets that never were."""
    refused = 0
    async with stranger(target) as guest:
        await guest.greet()
        stream = await guest.open(target.beside("ticket"))
        await write_all(stream, frame(wire.encode(TicketRequest((wire.digest(BLOB),)))))
        body = await FrameReader(stream, target.peer, 70_000).read()
        assert body is not None and body[:1] == b"\0", body
        reply = wire.decode(body[1:], wire.decoder(TicketReply), target.peer)
        machine = Fetcher(target.network, guest.identity, target.peer, reply.secret, entropy.seed(), offers(True))
        words = [machine.open().message]
        with trio.socket.socket() as sock:
            await sock.connect((target.host, target.data_port))
            await send_frame(sock, frame(words[0]))
            answer = await receive_frame(sock)
            words += [effect.message for effect in machine.receive(answer) if hasattr(effect, "message")]
            await send_frame(sock, frame(words[1]))
            met = not await _hangs_up(sock, 0.3)
            for said in ([words[0]], words, [wire.encode(Open(entropy.seed()[:16], bytes(32), ("aes-128-gcm",)))]):
                with trio.socket.socket() as other:
                    await other.connect((target.host, target.data_port))
                    for word in said:
                        await send_frame(other, frame(word))
                    refused += await _hangs_up(other, 60.0)
    return {"met": met, "refused": refused}


async def _hangs_up(sock: trio.socket.SocketType, seconds: float) -> bool:
    """True when the other side ends it without a word."""
    with trio.move_on_after(seconds):
        try:
            return await sock.recv(1) == b""
        except OSError:
            return True
    return False


ATTACKS: Final[dict[str, Attack]] = {
    "connects": connects,
    "silent sockets": silent,
    "half a negotiation": half_negotiated,
    "half of Noise": half_noise,
    "no muxer": no_muxer,
    "rubbish at the door": rubbish,
    "data port: silence": data_silent,
    "data port: rubbish": data_rubbish,
    "data port: replay": data_replayed,
}
