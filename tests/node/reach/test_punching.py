"""Relayed connections become direct ones: on loopback by the driver's rules, in the laboratory through real routers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from libp2p.abc import INetStream

from benchmarks.netlab import ground
from benchmarks.netlab.laboratory import Host, Laboratory
from benchmarks.netlab.routers import Kind
from node.libp2p_rim import libp2p_id, protocol_id
from node.reach.circuit_messages import DCUTR_PROTOCOL, MessageReader, say_punch
from node.reach.punch_dials import PunchDials
from node.reach.punching import Puncher, is_public
from node.reach.relayed_connection import is_connected_directly, open_directly, open_eagerly
from node.reach.sockets import abort
from protocol.errors import Unavailable
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.punch import GIVE_UP_US, Connect, PunchMemory, Sync
from protocol.units import MINUTE, SECOND
from shoal.processes import shoal_environment
from tests.node.reach.relay_hosts import Node, nodes
from tests.node.waiting import SECONDS, until

PEER = Path(__file__).parent / "punch_process.py"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.reach.punching.GRACE_S", 0.3)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For punches that come through."""
    be_patient(monkeypatch)


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No punch fails because this machine is slow."""
    for name in ("ANSWER_US", "DIAL_US", "GIVE_UP_US"):
        monkeypatch.setattr(f"protocol.overlay.punch.{name}", SECONDS * SECOND)
    for name in ("DIAL_US", "GIVE_UP_US"):
        monkeypatch.setattr(f"node.reach.punching.{name}", SECONDS * SECOND)


async def relayed(relay: Node, alice: Node, bob: Node) -> None:
    """Alice has dialled Bob through the relay."""
    relay.relays()
    alice.knows(relay)
    bob.knows(relay)
    await bob.client.reserve(relay.peer)
    await alice.client.dial(relay.peer, bob.peer)


def punches(node: Node, *, at: str = "", kinds: tuple[NatKind, NatKind] = ("unknown", "unknown")) -> Puncher:
    """A puncher that tells `at`, its own address unless said otherwise, and may dial loopback."""
    return node.punches(lambda: [at or node.address], kinds, is_allowed=lambda address: True)


@pytest.mark.usefixtures("patient")
async def test_a_relayed_connection_becomes_direct_and_goes() -> None:
    async with nodes(3) as (relay, alice, bob):
        punches(alice)
        punches(bob)
        await relayed(relay, alice, bob)
        assert await until(lambda: "direct" in alice.kinds(bob.peer) and "direct" in bob.kinds(alice.peer), SECONDS)
        assert await until(lambda: bob.counts["punches_succeeded"] == 1, SECONDS)
        assert await until(lambda: set(alice.kinds(bob.peer)) == set(bob.kinds(alice.peer)) == {"direct"}, SECONDS)
        assert await alice.echoed(bob.peer, b"still here") == b"still here"
        assert (bob.upgraded, alice.upgraded) == ([(alice.peer, True)], [(bob.peer, True)])
        assert (alice.counts["punches_tried"], bob.counts["punches_tried"]) == (0, 1)


async def test_a_punch_that_cannot_work_is_given_up_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.reach.punching.LOOK_S", 0.2)
    monkeypatch.setattr("protocol.overlay.punch.PUNCH_SOON_US", 10 * MINUTE)
    async with nodes(3) as (relay, alice, bob):
        told = ["/ip4/127.0.0.1/tcp/1"]
        alice.punches(lambda: told, is_allowed=lambda address: True)
        bob.punches(lambda: told, is_allowed=lambda address: True)
        started = trio.current_time()
        await relayed(relay, alice, bob)
        assert await alice.echoed(bob.peer, b"meanwhile") == b"meanwhile"
        assert await until(lambda: bob.counts["punches_failed"] == 1, SECONDS)
        assert trio.current_time() - started < SECONDS
        assert alice.kinds(bob.peer) == ["relayed"]
        tried = bob.counts["punches_tried"]
        assert not await until(lambda: bob.counts["punches_tried"] != tried, 0.6)
        be_patient(monkeypatch)
        told[:] = [bob.address]
        assert await until(lambda: bob.counts["punches_tried"] == tried + 1, SECONDS)
        assert await until(lambda: "direct" in alice.kinds(bob.peer), SECONDS)


async def test_two_symmetric_routers_are_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[str] = []
    monkeypatch.setattr(PunchDials, "begin", lambda self, peer, addresses, *_, **__: dialled.extend(addresses))
    async with nodes(3) as (relay, alice, bob):
        punches(alice, kinds=("symmetric", "symmetric"))
        punches(bob, kinds=("symmetric", "symmetric"))
        await relayed(relay, alice, bob)
        assert await until(lambda: bob.counts["punches_failed"] == 1, SECONDS)
        assert dialled == []
        assert alice.kinds(bob.peer) == ["relayed"]


@pytest.mark.usefixtures("patient")
async def test_the_smaller_id_initiates_when_both_listen() -> None:
    async with nodes(3) as (relay, alice, bob):
        await relayed(relay, alice, bob)
        await alice.client.reserve(relay.peer)
        await bob.client.dial(relay.peer, alice.peer)
        assert await until(lambda: alice.kinds(bob.peer) == ["relayed", "relayed"], SECONDS)
        one, other = sorted((alice, bob), key=lambda node: node.peer)
        first, second = punches(one), punches(other)
        results: list[bool] = []

        async def upgrade(puncher: Puncher, peer: bytes) -> None:
            results.append(await puncher.upgrade(next(node.peer for node in (one, other) if node.peer == peer)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upgrade, second, one.peer)
            nursery.start_soon(upgrade, first, other.peer)
        assert results == [True, True]
        assert (one.counts["punches_tried"], other.counts["punches_tried"]) == (1, 0)


@pytest.mark.usefixtures("patient")
async def test_of_two_that_begin_at_once_the_larger_id_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has seen only the other's relayed connection, and begins."""
    monkeypatch.setattr(Puncher, "_initiates", lambda self, peer: not is_connected_directly(self._host, peer))
    async with nodes(3) as (relay, alice, bob):
        await relayed(relay, alice, bob)
        one, other = sorted((alice, bob), key=lambda node: node.peer)
        first, second = punches(one), punches(other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.upgrade, other.peer)
            nursery.start_soon(second.upgrade, one.peer)
        assert [node.counts["punches_tried"] for node in (one, other)] == [1, 1]
        assert [node.counts["punches_succeeded"] for node in (one, other)] == [1, 0]
        assert [node.counts["punches_failed"] for node in (one, other)] == [0, 0]


async def test_who_asks_too_often_ends_no_punch_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep ours from being remembered as failed, and us dialling what it says are its addresses."""
    monkeypatch.setattr(Puncher, "_initiates", lambda self, peer: not is_connected_directly(self._host, peer))
    monkeypatch.setattr(PunchMemory, "may_answer", lambda self, peer, now: False)
    monkeypatch.setattr("node.reach.punching.GIVE_UP_US", SECOND)
    async with nodes(3) as (relay, alice, bob):
        await relayed(relay, alice, bob)
        one, other = sorted((alice, bob), key=lambda node: node.peer)
        asked = trio.Event()

        async def mute(stream: INetStream) -> None:
            asked.set()
            await trio.sleep_forever()

        one.host.set_stream_handler(protocol_id(DCUTR_PROTOCOL), mute)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(punches(other).upgrade, one.peer)
            await asked.wait()
            with pytest.raises(Unavailable):
                stream = await open_eagerly(one.host, other.peer, DCUTR_PROTOCOL)
                await say_punch(stream, Connect(()))
                await MessageReader(stream, other.peer, DCUTR_PROTOCOL).punch_message()
        assert (other.counts["punches_tried"], other.counts["punches_failed"]) == (1, 1)


@pytest.mark.usefixtures("patient")
async def test_a_public_peer_is_dialled_back_at_once() -> None:
    """The book knows an address of Alice that works: no messages are needed."""
    async with nodes(3) as (relay, alice, bob):
        bob.punches(list, known=(alice.address,), is_allowed=lambda address: True)
        await relayed(relay, alice, bob)
        assert await until(lambda: "direct" in alice.kinds(bob.peer), SECONDS)


async def test_rules_are_kept() -> None:
    async with nodes(3) as (relay, alice, bob):
        await relayed(relay, alice, bob)
        punches(bob)
        name = libp2p_id(bob.peer)
        for wrong in (Sync(), Connect(())):
            stream = await alice.host.new_stream(name, [protocol_id(DCUTR_PROTOCOL)])
            await say_punch(stream, wrong)
            if wrong == Connect(()):
                await MessageReader(stream, bob.peer).punch_message()
                await say_punch(stream, wrong)
        assert await until(lambda: [one.code for one in bob.punished] == ["punch_order"] * 2, SECONDS)
        relay.knows(bob)
        with pytest.raises(Unavailable):
            stream = await open_directly(relay.host, bob.peer, DCUTR_PROTOCOL)
            await say_punch(stream, Connect((relay.address,)))
            await MessageReader(stream, bob.peer, DCUTR_PROTOCOL).punch_message()


def test_what_others_may_make_us_dial() -> None:
    assert is_public("/ip4/11.22.33.44/tcp/4301") and is_public("/ip6/2a00:1450::1/tcp/1")
    inside = ["/ip4/127.0.0.1/tcp/22", "/ip4/192.168.1.1/tcp/80", "/ip4/100.64.0.1/tcp/1", "/ip6/::1/tcp/1"]
    odd = ["/dns4/localhost/tcp/22", "/ip4/11.22.33.44/udp/1", "/ip4/11.22.33.44/tcp/0", "", "/ip4/0.0.0.1"]
    assert not any(map(is_public, inside + odd))


# ── through real routers ─────────────────────────────────────────────────────────────────────────────────────────────
PAIRS: dict[tuple[Kind, Kind, NatKind, NatKind], bool] = {
    ("remapping", "port-restricted", "unknown", "cone"): True,
    ("cgnat", "remapping", "unknown", "unknown"): True,
    ("address-restricted", "symmetric", "unknown", "unknown"): True,
    ("symmetric", "port-restricted", "unknown", "unknown"): False,
}
"""(dialer's router, listener's router, what each knows of its own) and whether a punch comes through."""


@pytest.fixture
def lab() -> Iterator[Laboratory]:
    if why := ground.missing():
        pytest.skip(why)
    with Laboratory() as made:
        yield made


def start(stack: ExitStack, host: Host, *words: str) -> subprocess.Popen[str]:
    with host.entered():
        process = subprocess.Popen(
            [sys.executable, str(PEER), *words], stdout=subprocess.PIPE, text=True, env=shoal_environment()
        )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def said(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the peer ended without a word"
    found: dict[str, object] = json.loads(line)
    return found


def test_routers(lab: Laboratory) -> None:
    with ExitStack() as stack:
        shop = lab.house("shop", "public").host
        relay = said(start(stack, shop, "0", "relay", f"/ip4/{shop.address}/tcp/4301"))
        where = (str(relay["peer"]), str(relay["address"]))
        listeners = [
            start(
                stack,
                lab.house(f"listener{number}", theirs).host,
                str(number + 1),
                "listener",
                *where,
                kind_theirs,
                kind_ours,
            )
            for number, (_, theirs, kind_ours, kind_theirs) in enumerate(PAIRS)
        ]
        dialers = []
        for number, (pair, listener) in enumerate(zip(PAIRS, listeners, strict=True)):
            home = lab.house(f"dialer{number}", pair[0]).host
            dialers.append(
                start(
                    stack,
                    home,
                    str(number + 51),
                    "dialer",
                    *where,
                    pair[2],
                    pair[3],
                    str(said(listener)["peer"]),
                    str(SECONDS if PAIRS[pair] else GIVE_UP_US / SECOND + 2),
                )
            )
        for pair, dialer in zip(PAIRS, dialers, strict=True):
            result = said(dialer)
            assert result["is_usable"], (pair, result)
            assert result["kinds"] == (["direct"] if PAIRS[pair] else ["relayed"]), (pair, result)


async def test_the_end_of_a_failed_handshake_leaves_its_pair_of_ports_free() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    place = listener.socket.getsockname()
    taken: set[int] = set()
    async with listener:
        for _ in range(2):
            dialled = trio.socket.socket()
            await dialled.bind(("127.0.0.1", max(taken, default=0)))
            await dialled.connect(place)
            taken.add(dialled.getsockname()[1])
            stream = trio.SocketStream(dialled)
            async with await listener.accept() as theirs:
                await abort([stream])
                with pytest.raises(trio.BrokenResourceError):
                    await theirs.receive_some()
            await abort([stream])
    assert len(taken) == 1, "a second dial between the same two ports, while an orderly end would still hold them"
