"""Real nodes over real sockets: several sources, liars, slow and full ones, both ways to a holder, caps, shares."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio
from blake3 import blake3

from node.bulk import assembly, channel, download, routes
from node.bulk.listener import CONNECTIONS_PER_PEER
from node.bulk.serving import Serving as ServingLink
from protocol import wire
from protocol.bulk.chunks import CHUNK_BYTES, ChunkList
from protocol.errors import Refused, Unavailable
from protocol.jobspec import Manifest, OutputFile
from protocol.units import KIB, MIB, Digest
from tests.node.waiting import SECONDS, happens

if TYPE_CHECKING:
    from tests.node.bulk.conftest import Node, Serving

Make = Callable[..., "Node"]


def some(size: int, seed: int = 1) -> bytes:
    """Bytes that repeat nowhere."""
    return random.Random(seed).randbytes(size)


def held(data: bytes, *nodes: Node) -> Digest:
    """All of these nodes have it."""
    for one in nodes:
        one.blobs.put(data)
    return Digest(blake3(data).digest())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * MIB + 7])
async def test_a_blob_comes_straight_from_the_data_port(node: Make, serving: Serving, size: int) -> None:
    a, b = node("a"), node("b")
    data = some(size)
    digest = a.blobs.put(data)
    async with serving(a, b):
        assert await b.fetch(digest, a) == size
        assert b.blobs.read(digest, 10 * MIB) == data
        assert b.count("bulk_bytes_received_direct") == size == a.count("bulk_bytes_sent_direct")
        assert b.count("bulk_connections_stream") == 0
        assert list((b.blobs.partial(digest).parent).iterdir()) == []


async def test_without_a_data_port_a_stream_serves_and_is_remembered(
    node: Make, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = node("a"), node("b")
    first, second = a.blobs.put(some(3 * MIB)), a.blobs.put(some(100_000, 2))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with serving(a, b):
        monkeypatch.setattr(type(a.plane), "_data_address", lambda *_: f"/ip4/127.0.0.1/tcp/{port}")
        assert await b.fetch(first, a) == 3 * MIB
        assert await b.fetch(second, a) == 100_000
        assert b.count("bulk_bytes_received_stream") == 3 * MIB + 100_000
        assert b.count("bulk_connections_stream") == 2
        assert b.plane._routes._is_worth_trying(a.peer) is False


async def test_a_large_blob_comes_from_all_its_sources(node: Make, serving: Serving) -> None:
    holders = [node(name) for name in "abc"]
    b = node("fetcher")
    data = some(24 * MIB)
    digest = held(data, *holders)
    async with serving(b, *holders):
        for holder in holders:
            holder.plane.up.set_rate(2 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch, digest, *holders)
            await happens(lambda: all(holder.count("bulk_bytes_sent_direct") >= MIB for holder in holders))
            for holder in holders:
                holder.plane.up.set_rate(None)
        moved = b.plane.tally.transfers[-1]
        assert {peer for peer, _ in moved.by_source} == {holder.peer for holder in holders}
        assert sum(moved.by_source.values()) == moved.size == len(data)


async def test_a_source_with_wrong_bytes_is_found_at_once_and_no_byte_of_it_stays(node: Make, serving: Serving) -> None:
    liar, a, b = node("liar"), node("a"), node("b")
    data = some(3 * MIB)
    digest = held(data, liar, a)
    async with serving(liar, a, b):
        liar.lie_about_bytes(digest, 2 * MIB + 5)
        await b.fetch(digest, liar, a)
        assert b.blobs.read(digest, 10 * MIB) == data
        assert b.count("violations") == 1
        assert b.blamed == {liar.peer}


@pytest.mark.parametrize("liar_first", [True, False])
async def test_a_lying_list_is_the_liar_s_fault_and_never_the_honest_one_s(
    node: Make, serving: Serving, liar_first: bool
) -> None:
    liar, a, b = node("liar"), node("a"), node("b")
    data = some(6 * MIB)
    digest = held(data, liar, a)
    async with serving(liar, a, b):
        liar.lie_about_bytes(digest, 5)
        false = liar.blobs.path(digest).read_bytes()
        pieces = [false[at : at + CHUNK_BYTES] for at in range(0, len(false), CHUNK_BYTES)]
        liar.plane._lists._known[digest] = ChunkList(len(false), b"".join(blake3(piece).digest() for piece in pieces))
        for one in (liar, a):
            one.plane.up.set_rate(10 * MIB)
        await b.fetch(digest, *((liar, a) if liar_first else (a, liar)))
        assert b.blobs.read(digest, 10 * MIB) == data
        assert b.blamed == {liar.peer}


async def test_only_liars_means_unavailable(node: Make, serving: Serving) -> None:
    liar, b = node("liar"), node("b")
    digest = liar.blobs.put(some(100))
    async with serving(liar, b):
        liar.lie_about_bytes(digest, 5)
        with pytest.raises(Unavailable, match="wrong bytes"):
            await b.fetch(digest, liar)


async def test_a_slow_source_does_not_hold_a_fast_one_up(node: Make, serving: Serving) -> None:
    slow, fast, b = node("slow"), node("fast"), node("b")
    data = some(12 * MIB)
    digest = held(data, slow, fast)
    async with serving(slow, fast, b):
        slow.plane.up.set_rate(20 * KIB)
        await b.fetch(digest, slow, fast)
        by_source = b.plane.tally.transfers[-1].by_source
        assert by_source[fast.peer, "direct"] >= 10 * MIB, "alone the slow one would have needed ten minutes"


async def test_a_source_that_appears_later_joins(node: Make, serving: Serving) -> None:
    slow, late, b = node("slow"), node("late"), node("b")
    data = some(16 * MIB)
    digest = held(data, slow, late)
    async with serving(slow, late, b):
        slow.plane.up.set_rate(2 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch, digest, slow)
            await happens(lambda: b.count("blob_bytes_received") > 0)
            slow.plane.up.set_rate(64 * KIB)
            await b.fetch(digest, late)
        assert b.plane.tally.transfers[-1].by_source[late.peer, "direct"] > 8 * MIB
        assert b.count("blobs_fetched") == 1


async def test_a_full_store_and_a_large_blob_are_refused_with_numbers(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b", blob_bytes_max=4 * MIB)
    digest = a.blobs.put(some(5 * MIB))
    async with serving(a, b):
        with pytest.raises(Refused) as refusal:
            await b.fetch(digest, a)
        assert refusal.value.code == "disk_full"
        with pytest.raises(Refused) as refusal:
            await b.fetch(digest, a, size_max=MIB)
        assert refusal.value.numbers == {"size": 5 * MIB, "size_max": MIB}
        assert b.count("violations") == 0
        assert b.blobs._promised == 0


async def test_a_source_that_exaggerates_does_not_spoil_an_honest_one(node: Make, serving: Serving) -> None:
    liar, a, b = node("liar"), node("a"), node("b")
    digest = held(some(100), liar, a)
    async with serving(liar, a, b):
        liar.plane._lists._known[digest] = ChunkList(900 * MIB, bytes(32) * 225)
        assert await b.fetch(digest, liar, a, size_max=MIB) == 100


async def test_an_output_of_many_files_uses_few_connections(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    files = tuple(OutputFile(f"{n:03}", a.blobs.put(some(500, n)), 500) for n in range(200))
    digest = a.blobs.put(wire.encode(Manifest(files)))
    async with serving(a, b):
        with trio.fail_after(SECONDS):
            await b.transport.fetch(digest, MIB, [a.peer], is_output=True)
        assert all(b.blobs.has(Digest(file.digest)) for file in files)
        assert b.count("bulk_connections_direct") < len(files) / 4, (
            "a slow holder is asked over a second one now and then"
        )
        assert a.count("blobs_served") >= 200


async def test_many_blobs_one_after_the_other_stay_within_a_holder_s_bound(node: Make, serving: Serving) -> None:
    a, b = node("holder"), node("fetcher")
    digests = [held(some(1_000 + number), a) for number in range(2 * CONNECTIONS_PER_PEER + 3)]
    async with serving(a, b):
        for digest in digests:
            await b.fetch(digest, a)
        assert b.count("bulk_connections_direct") == len(digests)
        assert b.count("bulk_connections_stream") == 0


async def test_a_ticket_opens_only_what_it_names(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    wanted, other = a.blobs.put(some(10)), a.blobs.put(some(20, 2))
    async with serving(a, b):
        link = await b.plane._open_link(a.peer, (wanted,))
        assert link is not None
        link.scope = frozenset({wanted, other})
        b.plane._routes.keep(link)
        assert await b.fetch(other, a) == 20, "with a ticket of its own, after the other connection was cut"
        assert a.blamed == {b.peer}


@pytest.mark.alone
async def test_caps_are_held_and_jobs_share_by_weight(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digests = [a.blobs.put(some(12 * MIB, seed)) for seed in (1, 2)]
    async with serving(a, b):
        b.plane.down.set_rate(16 * MIB)
        b.plane.down.set_job(b"one", weight=3)
        started = trio.current_time()
        ended: dict[bytes, tuple[float, int]] = {}
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:

                async def bring(job: bytes, digest: Digest) -> None:
                    await b.plane.fetch(digest, 64 * MIB, [a.peer], False, job)
                    ended[job] = trio.current_time() - started, b.count("blob_bytes_received")

                for job, digest in zip((b"one", b"two"), digests, strict=True):
                    nursery.start_soon(bring, job, digest)
    assert ended[b"two"][0] > 1.5 * 0.85, "24 MiB at 16 MiB/s; a busy machine may need longer"
    assert ended[b"one"][1] == pytest.approx(16 * MIB, abs=3 * MIB), "12 MiB at three quarters of it: 4 MiB beside them"


async def test_a_fetch_that_is_cancelled_leaves_nothing_running(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digest = a.blobs.put(some(16 * MIB))
    async with serving(a, b):
        a.plane.up.set_rate(2 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.fetch, digest, a)
            await happens(lambda: b.count("blob_bytes_received") > 0)
            nursery.cancel_scope.cancel()
        assert b.plane._shop.lanes.borrowed_tokens == b.plane._shop.hashers.borrowed_tokens == 0
        assert b.blobs._promised == 0
        await happens(lambda: a.plane._served.borrowed_tokens == 0)
        received = b.count("blob_bytes_received")
        a.plane.up.set_rate(None)
        await b.fetch(digest, a)
        assert b.count("blob_bytes_received") == 16 * MIB >= received, "no chunk was fetched twice"


async def test_a_silent_holder_is_given_up(node: Make, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, a, b = node("silent"), node("a"), node("b")
    digest = held(some(3 * MIB), silent, a)
    patience = channel.SocketChannel.set_patience

    def short(self: channel.SocketChannel, seconds: float) -> None:
        is_to_silent = self._socket.getpeername()[1] == silent.plane.port
        patience(self, 0.4 if is_to_silent else seconds)

    monkeypatch.setattr(channel.SocketChannel, "set_patience", short)
    released = threading.Event()
    honest = ServingLink._send_chunk

    def mute(self: ServingLink, digest: Digest, index: int) -> None:
        if self._store is silent.blobs:
            released.wait(SECONDS)
            raise Unavailable("it never meant to")
        honest(self, digest, index)

    monkeypatch.setattr(ServingLink, "_send_chunk", mute)
    async with serving(silent, a, b):
        await b.fetch(digest, silent, a)
        released.set()
        assert b.count("violations") == 0


async def test_heartbeats_come_between_while_bulk_moves(node: Make, serving: Serving) -> None:
    a, b = node("a"), node("b")
    digest = a.blobs.put(some(64 * MIB))
    moved: list[int] = []

    async def beat() -> None:
        while True:
            before = b.count("blob_bytes_received")
            await trio.sleep_until(trio.current_time() + 0.005)
            moved.append(b.count("blob_bytes_received") - before)

    async with serving(a, b), trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await b.fetch(digest, a)
        nursery.cancel_scope.cancel()
    moved.sort()
    assert moved[len(moved) // 2] <= 8 * MIB, "hardly anything passes between two of them, both nodes in one process"


def test_the_modules_agree_on_what_is_large() -> None:
    assert CHUNK_BYTES < download.PARALLEL_BYTES < download.TWIN_BYTES
    assert routes.IDLE_S < channel.STALL_S
    assert assembly.LOOK_S < channel.STALL_S
