"""A node keeps relays: the near ones, of different networks; it replaces the dead and the dishonest."""

from __future__ import annotations

import pytest
import trio

from node.libp2p_rim import libp2p_id
from node.reach.circuit_messages import HOP_PROTOCOL
from node.reach.relays import Relays
from protocol.overlay.relay_choice import Candidate
from tests.node.reach.relay_hosts import Node, nodes
from tests.node.reach.test_relay_client import changes, crooked
from tests.node.waiting import SECONDS, until


class Surroundings:
    """What a node knows of relays, as a test sets it."""

    def __init__(self, bob: Node, *relays: Node) -> None:
        self.is_public = False
        self.candidates = [relay.candidate(rtt, f"/ip4/11.{rtt}.0.1/tcp/1") for rtt, relay in enumerate(relays, 1)]
        bob.knows(*relays)
        self.relays = Relays(bob.client, lambda: self.candidates, lambda: self.is_public, bob.clock, bob.counts)
        bob.nursery.start_soon(self.relays.run)


def circuits(*relays: Node) -> tuple[str, ...]:
    return tuple(f"{relay.address}/p2p/{libp2p_id(relay.peer)}/p2p-circuit" for relay in relays)


async def test_the_nearest_three_are_kept_until_the_node_is_public() -> None:
    async with nodes(5) as (bob, *relays):
        for relay in relays:
            relay.relays()
        around = Surroundings(bob, *relays)
        changed = around.relays.changed
        with trio.fail_after(SECONDS):
            await changed.wait()
        assert await until(lambda: sorted(around.relays.addresses()) == sorted(circuits(*relays[:3])), SECONDS)
        assert set(around.relays.chosen()) == {relay.peer for relay in relays[:3]}
        assert relays[3].counts["relay_reservations"] == 0
        around.is_public = True
        around.relays.poke()
        assert await until(lambda: around.relays.addresses() == (), SECONDS)
        assert not bob.client.reserved


async def test_a_dead_relay_is_replaced() -> None:
    async with nodes(5) as (bob, *relays):
        for relay in relays:
            relay.relays()
        around = Surroundings(bob, *relays)
        assert await until(lambda: len(around.relays.addresses()) == 3, SECONDS)
        relays[0].shut_out.add(bob.peer)
        await relays[0].host.disconnect(libp2p_id(bob.peer))
        around.relays.poke()
        assert await until(lambda: sorted(around.relays.addresses()) == sorted(circuits(*relays[1:])), SECONDS)
        assert bob.counts["relays_lost"] == 1


async def test_a_relay_that_changes_bytes_is_never_told_to_anybody() -> None:
    async with nodes(3) as (bob, bad, good):
        bad.serve(HOP_PROTOCOL, crooked(bad, changes))
        good.relays()
        around = Surroundings(bob, bad, good)
        told: set[str] = set()

        def is_settled() -> bool:
            told.update(around.relays.addresses())
            return bob.counts["relays_misbehaved"] == 1 and around.relays.addresses() == circuits(good)

        assert await until(is_settled, SECONDS)
        assert told == set(circuits(good))


async def test_a_relay_that_turns_bad_is_noticed_when_circuits_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.overlay.relay_choice.SUSPECT_US", 0)
    async with nodes(3) as (bob, relay, other):
        relay.relays()
        around = Surroundings(bob, relay)
        assert await until(lambda: around.relays.addresses() == circuits(relay), SECONDS)
        around.relays.suspect(relay.peer)
        assert await until(lambda: relay.counts["relay_circuits"] == 2, SECONDS)
        assert around.relays.addresses() == circuits(relay)
        relay.serve(HOP_PROTOCOL, crooked(relay, changes))
        other.relays()
        bob.knows(other)
        around.candidates.append(other.candidate(9, "/ip4/11.9.0.1/tcp/1"))
        around.relays.suspect(relay.peer)
        assert await until(lambda: around.relays.addresses() == circuits(other), SECONDS)
        assert bob.counts["relays_misbehaved"] == 1


async def test_sybils_of_one_subnet_get_two_places() -> None:
    async with nodes(5) as (bob, *sybils):
        for sybil in sybils:
            sybil.relays()
        around = Surroundings(bob, *sybils)
        around.candidates = [
            Candidate(one.peer, one.rtt, f"/ip4/66.66.{n}.1/tcp/1") for n, one in enumerate(around.candidates)
        ]
        assert await until(lambda: len(around.relays.addresses()) == 2, SECONDS)
        assert not await until(lambda: len(around.relays.addresses()) != 2, 0.5)


async def test_one_that_does_not_answer_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.reach.relay_client.REPLY_S", 1.0)
    async with nodes(3) as (bob, silent, good):
        asked = trio.Event()

        async def say_nothing(stream: object) -> None:
            asked.set()
            await trio.sleep_forever()

        silent.serve(HOP_PROTOCOL, say_nothing)
        around = Surroundings(bob, silent)
        with trio.fail_after(SECONDS):
            await asked.wait()
        monkeypatch.setattr("node.reach.relay_client.REPLY_S", SECONDS)  # The good one may take its time.
        good.relays()
        bob.knows(good)
        around.candidates.append(good.candidate(5, "/ip4/11.5.0.1/tcp/1"))
        assert await until(lambda: around.relays.addresses() == circuits(good), SECONDS)
