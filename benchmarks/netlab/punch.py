"""What raw sockets can do between two hosts of a laboratory, without any Shoal: the truth that the overlay is held to.

`observe` says how a router maps and filters, the way STUN does it (RFC 5780). `punch_udp` and `punch_tcp` let two hosts
learn their outside addresses from a public one, tell each other, and then send both at once, TCP from the port that
they also listen on. Each returns the milliseconds until both had heard the other, None when they never did.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

from benchmarks.netlab.laboratory import Host
from benchmarks.netlab.routers import Filtering, Mapping

GIVE_UP_S: Final = 1.5
"""A wire of the laboratory takes well under a millisecond; the kernel repeats a SYN after a second."""

HEARD_S: Final = 0.2
"""One packet's way, on a machine that is not held up."""

AGAIN_S: Final = 0.05
"""Between two packets of a punch."""

REACHED_S: Final = 60.0
"""Everybody reaches a public host; this long only a broken laboratory takes."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Observed:
    """How a router treats UDP."""

    mapping: Mapping
    filtering: Filtering
    keeps_port: bool


def udp(host: Host, port: int = 0) -> trio.socket.SocketType:
    """A bound socket of that host."""
    made = host.socket(socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", port))
    return trio.socket.from_stdlib_socket(made)


def tcp(host: Host, port: int) -> trio.socket.SocketType:
    """A socket of that host on a port that it shares with others of ours, as dialing from a listen port needs."""
    made = host.socket(socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("0.0.0.0", port))
    return trio.socket.from_stdlib_socket(made)


async def _heard(one: trio.socket.SocketType, seconds: float) -> tuple[bytes, Address] | None:
    with trio.move_on_after(seconds):
        data, source = await one.recvfrom(64)
        return data, (source[0], source[1])
    return None


async def observe(host: Host, first: Host, second: Host, patience_s: float = HEARD_S) -> Observed | None:
    """Two public hosts look at a port of `host`; None when UDP does not pass. `patience_s`: for each packet."""
    ours, a, other_port, b = udp(host), udp(first), udp(first), udp(second)
    try:
        await ours.sendto(b"?", (first.address, a.getsockname()[1]))
        seen = await _heard(a, patience_s)
        if seen is None:
            return None
        outside = seen[1]
        filtering: Filtering = "port"
        for one, found in ((b, "open"), (other_port, "address")):
            await one.sendto(b"!", outside)
            if await _heard(ours, patience_s) is not None:
                filtering = "open" if found == "open" else "address"
                break
        await ours.sendto(b"?", (second.address, b.getsockname()[1]))
        again = await _heard(b, patience_s)
        assert again is not None, "UDP to one host passes and to another does not"
        is_public = outside[0] == host.address
        mapping: Mapping = "none" if is_public else "independent" if again[1] == outside else "dependent"
        return Observed(mapping, filtering, outside[1] == ours.getsockname()[1])
    finally:
        for one in (ours, a, other_port, b):
            one.close()


async def punch_udp(one: Host, other: Host, meeting: Host, give_up_s: float = GIVE_UP_S) -> float | None:
    """Both send to the other's observed port until both have heard something."""
    sides, rendezvous = (udp(one), udp(other)), udp(meeting)
    try:
        outside: list[Address] = []
        for side in sides:
            await side.sendto(b"?", (meeting.address, rendezvous.getsockname()[1]))
            seen = await _heard(rendezvous, HEARD_S if give_up_s <= GIVE_UP_S else give_up_s)
            if seen is None:
                return None
            outside.append(seen[1])
        began = trio.current_time()
        with trio.move_on_after(give_up_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_knock_udp, sides[0], outside[1])
                nursery.start_soon(_knock_udp, sides[1], outside[0])
            return (trio.current_time() - began) * 1e3
        return None
    finally:
        for end in (*sides, rendezvous):
            end.close()


async def _knock_udp(side: trio.socket.SocketType, target: Address) -> None:
    """Until we have heard a packet that says that the other heard us."""
    has_heard = False
    while True:
        await side.sendto(b"2" if has_heard else b"1", target)
        heard = await _heard(side, AGAIN_S)
        if heard is not None:
            has_heard, target = True, heard[1]  # A symmetric peer comes from another port than was observed.
            await side.sendto(b"2", target)
            if heard[0] == b"2":
                return


async def punch_tcp(one: Host, other: Host, meeting: Host, port: int, give_up_s: float = GIVE_UP_S) -> float | None:
    """Both listen on `port` and dial the other's observed port from it, until one connection carries bytes."""
    sides = (one, other)
    rendezvous = tcp(meeting, 0)
    rendezvous.listen(4)
    kept: list[trio.socket.SocketType] = [rendezvous]
    try:
        outside = [await _look(side, meeting, rendezvous, port, kept) for side in sides]
        began = trio.current_time()
        done = trio.Event()
        with trio.move_on_after(give_up_s):
            async with trio.open_nursery() as nursery:
                for side, target in zip(sides, reversed(outside), strict=True):
                    nursery.start_soon(_listen, side, port, done, kept)
                    nursery.start_soon(_dial, side, port, target, done, kept)
                await done.wait()
                nursery.cancel_scope.cancel()
        return (trio.current_time() - began) * 1e3 if done.is_set() else None
    finally:
        for end in kept:
            end.close()


async def _look(
    side: Host, meeting: Host, rendezvous: trio.socket.SocketType, port: int, kept: list[trio.socket.SocketType]
) -> Address:
    """The address that a public host sees of our port; the connection stays, for it keeps the mapping."""
    ours = tcp(side, port)
    kept.append(ours)
    with trio.fail_after(REACHED_S):
        await ours.connect((meeting.address, rendezvous.getsockname()[1]))
        theirs, address = await rendezvous.accept()
    kept.append(theirs)
    return address[0], address[1]


async def _listen(side: Host, port: int, done: trio.Event, kept: list[trio.socket.SocketType]) -> None:
    listener = tcp(side, port)
    listener.listen(4)
    kept.append(listener)
    while True:
        connection, _ = await listener.accept()
        kept.append(connection)
        if await _talks(connection):
            done.set()


async def _dial(side: Host, port: int, target: Address, done: trio.Event, kept: list[trio.socket.SocketType]) -> None:
    while True:
        ours = tcp(side, port)
        kept.append(ours)
        try:
            await ours.connect(target)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return  # The other's connection, which came in, has this very pair of addresses.
            await trio.sleep(AGAIN_S)
            continue
        if await _talks(ours):
            done.set()
        return


async def _talks(connection: trio.socket.SocketType) -> bool:
    """Bytes go both ways."""
    try:
        await connection.send(b"hi")
        return await connection.recv(2) == b"hi"
    except OSError:
        return False


async def ping(
    host: Host, target: str, count: int, gap_s: float = 0.01, wait_s: float | None = REACHED_S
) -> list[float]:
    """Round trips of ICMP echoes in milliseconds, in the order of their answers; lost ones are missing. `wait_s`: for
    answers, after the last echo; None: until one of those after the last is answered, as none overtakes another."""
    raw = host.namespace.socket(socket.SOCK_RAW, socket.AF_INET, socket.IPPROTO_ICMP)
    line = trio.socket.from_stdlib_socket(raw)
    sent: dict[int, float] = {}
    trips: list[float] = []

    async def listen() -> None:
        number = 0
        while len(trips) < count and number < count:
            packet, source = await line.recvfrom(2_048)
            kind, number = packet[20], struct.unpack_from("!H", packet, 26)[0]
            if kind == 0 and source[0] == target and number in sent:
                trips.append((trio.current_time() - sent.pop(number)) * 1e3)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for number in itertools.count() if wait_s is None else range(count):
                if number < count:
                    sent[number] = trio.current_time()
                await line.sendto(_echo(number), (target, 0))
                await trio.sleep(gap_s)
            nursery.cancel_scope.deadline = trio.current_time() + (wait_s or 0.0)
    finally:
        line.close()
    return trips


def _echo(number: int) -> bytes:
    """An echo request of 64 bytes with its checksum (RFC 792)."""
    body = struct.pack("!BBHHH", 8, 0, 0, 1, number) + bytes(56)
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total >> 16) + (total & 0xFFFF)
    return body[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[4:]
