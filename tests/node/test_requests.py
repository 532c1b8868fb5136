"""Questions and answers between real hosts, and what rude ones make of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec import Struct

from node.blobs import BlobStore
from node.requests import ANSWERED_PER_PEER_MAX, Requests
from node.streams import frame, write_all
from node.transport import Transport, TransportConfig
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import Identity
from protocol.units import GIB, PeerId
from tests.node.waiting import SECONDS, happens

ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


class Sum(Struct, frozen=True, forbid_unknown_fields=True, tag="sum"):
    """What to add."""

    numbers: tuple[int, ...]


class Total(Struct, frozen=True, forbid_unknown_fields=True, tag="total"):
    """The answer."""

    value: int


SUM, TOTAL = wire.decoder(Sum), wire.decoder(Total)


async def add(asker: PeerId, question: Sum) -> Total:
    """Adds small numbers."""
    if asker != ALICE.peer:
        raise Unavailable("busy", code="busy")
    if sum(question.numbers) > 1_000:
        raise Refused("too large", code="too_large", fix="Ask for less.")
    return Total(sum(question.numbers))


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Requests, Requests, Transport]]:
    """Alice's and Bob's requests; Bob adds numbers, and Alice knows where he is."""
    config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
    alice = Transport(ALICE, "reef", config, BlobStore(folder / "a", GIB))
    bob = Transport(BOB, "reef", config, BlobStore(folder / "b", GIB))
    async with alice.serving(), bob.serving():
        alice.learn(BOB.peer, bob.addresses())
        bob._serving.requests.serve("add", SUM, add)
        yield alice._serving.requests, bob._serving.requests, bob


async def test_a_question_is_answered(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob, _):
        assert await alice.ask(BOB.peer, "add", Sum((1, 2, 3)), TOTAL) == Total(6)
        with pytest.raises(Refused, match="too large") as refused:
            await alice.ask(BOB.peer, "add", Sum((999, 2)), TOTAL)
        assert (refused.value.code, refused.value.fix) == ("too_large", "Ask for less.")
        with pytest.raises(Unavailable, match="unknown"):
            await alice.ask(BOB.peer, "unknown", Sum(()), TOTAL)
        alice.serve("add", SUM, add)
        with pytest.raises(Unavailable, match="busy") as busy:
            await bob.ask(ALICE.peer, "add", Sum(()), TOTAL)
        assert busy.value.code == "busy"


async def test_an_answer_of_another_kind_is_the_answerer_s_fault(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, _, _):
        with pytest.raises(RemoteViolation) as caught:
            await alice.ask(BOB.peer, "add", Sum((1,)), SUM)
        assert caught.value.peer == BOB.peer


async def test_a_malformed_question_shuts_its_asker_out(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, _, bob):
        stream = await alice._dialer.open_stream(BOB.peer, alice.protocol("add"))
        await write_all(stream, frame(b"\xc1"))
        await happens(lambda: bool(bob.statistics().get("violations")))


async def test_whoever_is_slow_to_ask_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob, _):
        bob._slots = trio.Semaphore(1)
        slow = await alice._dialer.open_stream(BOB.peer, alice.protocol("add"))
        await write_all(slow, (60_000).to_bytes(4, "big"))
        await happens(lambda: bool(bob._reading))
        with trio.fail_after(10):
            assert await alice.ask(BOB.peer, "add", Sum((1, 2)), TOTAL) == Total(3)


async def test_the_slowest_question_gives_its_place_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.requests.READ_MAX", 2)
    async with two(tmp_path) as (alice, bob, transport):
        for _ in range(4):
            slow = await alice._dialer.open_stream(BOB.peer, alice.protocol("add"))
            await write_all(slow, (60_000).to_bytes(4, "big"))
        await happens(lambda: transport.statistics().get("requests_evicted", 0) == 2)
        assert len(bob._reading) == 2


async def test_silence_ends_at_the_deadline_and_waiting_ones_are_bounded(tmp_path: Path) -> None:
    async with two(tmp_path) as (alice, bob, _):
        waiting = trio.Event()
        asked = 0

        async def never(asker: PeerId, question: Sum) -> Total:
            nonlocal asked
            asked += 1
            await waiting.wait()
            return Total(0)

        bob.serve("never", SUM, never)
        failures: list[Unavailable] = []

        async def ask() -> None:
            try:
                await alice.ask(BOB.peer, "never", Sum(()), TOTAL, SECONDS)
            except Unavailable as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(ANSWERED_PER_PEER_MAX + 4):
                nursery.start_soon(ask)
            await happens(lambda: (asked, len(failures)) == (ANSWERED_PER_PEER_MAX, 4))
            waiting.set()
        assert (asked, len(failures)) == (ANSWERED_PER_PEER_MAX, 4)
        assert {error.code for error in failures} <= {"no_answer", "link"}
        waiting = trio.Event()
        with pytest.raises(Unavailable, match=r"did not answer 'never' within 0\.2 s"):
            await alice.ask(BOB.peer, "never", Sum(()), TOTAL, seconds=0.2)
