"""The driver: what real machines do on it, and what it does with machines that break or do not stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import pytest

from protocol import wire
from protocol.completions import Completion, Fetched, RunLog
from protocol.effects import Effect, Emit, Machine, Publish, Send, Store, Wake
from protocol.messages import LogLines, Message
from protocol.units import Digest, Micros, PeerId
from protocol.watcher import Watcher
from simulations.driver import TICK_GAP_NS
from simulations.observer import Observer
from simulations.scenario import NS, Topology
from simulations.simpeer import SimPeer
from simulations.strategy import Strategy
from simulations.world import World
from tests.simulations.small import (
    PROVIDER,
    STEWARD,
    TOPOLOGY,
    VALIDATOR,
    awake,
    ends,
    kill,
    load,
    measured,
    planned,
    ran,
    records,
    scenario,
)


class Extra(Strategy):
    """An honest peer with one more machine."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(0, {})
        self.machine = machine

    def machines(self, peer: SimPeer, machines: list[Machine]) -> list[Machine]:
        return [*machines, self.machine]


class Scripted:
    """A machine that does the same at each tick, from a second after the start on."""

    accepts: tuple[type, ...] = ()

    def __init__(self, act: Callable[[Micros], list[Effect]]) -> None:
        self._act = act
        self._from = Micros(0)
        self.ticks: list[Micros] = []

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        raise AssertionError("nothing is routed here")

    def tick(self, now: Micros) -> list[Effect]:
        if not self._from:
            self._from = Micros(now + 1_000_000)
        if now < self._from:
            return [Wake(self._from)]
        self.ticks.append(now)
        return self._act(now)


class Answering:
    """A network that says when messages arrive as it was told to."""

    def __init__(self, arrivals: Iterator[int]) -> None:
        self._arrivals = arrivals

    def arrival(self, source: int, target: int, size: int, now: int) -> int:
        return next(self._arrivals)


class Watch(Observer):
    """Keeps what observers are told of crashes and of life and death."""

    def __init__(self) -> None:
        self.crashes: list[tuple[int, str, int]] = []
        self.moves: list[tuple[int, bool]] = []

    def crashed(self, peer: SimPeer, error: Exception, now: int) -> None:
        assert not peer.is_up
        self.crashes.append((peer.index, repr(error), now))

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        self.moves.append((peer.index, is_up))


LINES: Final = LogLines(bytes(16), 0, 1, 0, ("a line",))


def hearing(world: World, index: int, patch: pytest.MonkeyPatch) -> list[tuple[int, object]]:
    """The log lines that reach a peer from now on, with their times. Its machines hear nothing any more."""
    heard: list[tuple[int, object]] = []

    def receive(sender: PeerId, message: object, now: Micros) -> list[Effect]:
        if isinstance(message, LogLines):
            heard.append((world.queue.now, message))
        return []

    patch.setattr(world.peers[index].peer, "receive", receive)
    return heard


def with_machine(act: Callable[[Micros], list[Effect]], watch: Watch, index: int = PROVIDER) -> tuple[World, Scripted]:
    """A world without jobs in which one peer has a scripted machine."""
    world = World(scenario(jobs=None, plan=planned(5, 0)), 1, (), [watch])
    machine = Scripted(act)
    world.peers[index].strategy = Extra(machine)
    return world, machine


@pytest.mark.parametrize("seed", [1, 2])
def test_a_job_among_real_machines_is_done_checked_and_paid(seed: int) -> None:
    world = ran(scenario(load(reduce=True)), seed)
    (record,) = records(world)
    assert record.state == "settled" and all(chunk.is_done for chunk in record.chunks)
    assert ends(record) == [["accepted"]] * 5
    assert world.recorder.counts["emit/verdict"] == 5 and world.recorder.counts["emit/audit"] >= 2
    ledger = world.peers[VALIDATOR].machines.ledger
    ledger.check()
    earned = sum(world.recorder.values("payout/honest"))
    assert earned > 0
    escrow = ledger.escrows[record.escrow]
    assert escrow.is_closed and escrow.paid > 0
    assert escrow.paid + escrow.commission + escrow.refunded + escrow.evidence == escrow.cap
    assert {peer.machines.ledger.root for peer in world.peers} == {ledger.root}, "every replica executed the same"


def test_checked_and_trusted_wires_give_the_same_run() -> None:
    checked = measured(ran(scenario(plan=planned(wire="checked"))))
    assert checked == measured(ran(scenario(plan=planned(wire="trusted"))))


def test_a_checked_wire_hands_over_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for is_checked in (False, True):
        world = awake(scenario(jobs=None))
        world.driver.is_checked = is_checked
        heard = hearing(world, VALIDATOR, monkeypatch)
        world.driver.perform(world.peers[STEWARD], [Send(world.peers[VALIDATOR].id, LINES)])
        world.queue.run(NS)
        ((_, message),) = heard
        assert message == LINES
        seen.append(message is LINES)
    assert seen == [True, False]


def test_messages_that_come_twice_change_no_outcome() -> None:
    world = ran(scenario(topology=msgspec.structs.replace(TOPOLOGY, replay=0.3)))
    assert world.recorder.counts["messages/replayed"] > world.recorder.counts["messages/sent"] // 5
    assert [record.state for record in records(world)] == ["settled"]


def test_a_second_copy_never_comes_before_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    topology = Topology(latency="uniform", replay=1.0)
    for again, arrivals in ((40_000_000, [30_000_000, 40_000_000]), (-1, [30_000_000])):
        world = awake(scenario(jobs=None, topology=topology))
        heard, answers = hearing(world, VALIDATOR, monkeypatch), iter([30_000_000, again])
        with monkeypatch.context() as patch:
            patch.setattr(world.driver, "_network", Answering(answers))
            world.driver.perform(world.peers[STEWARD], [Send(world.peers[VALIDATOR].id, LINES)])
        world.queue.run(NS)
        assert [at for at, _ in heard] == arrivals, "what is lost with its connection does not come at all"


def test_a_message_to_nobody_is_counted() -> None:
    world = awake(scenario(jobs=None))
    world.driver.perform(world.peers[STEWARD], [Send(PeerId(bytes(32)), LINES)])
    assert world.recorder.counts["messages/unknown_peer"] == 1


def test_a_machine_that_raises_ends_its_node_and_nothing_else() -> None:
    watch = Watch()

    def breaks(now: Micros) -> list[Effect]:
        raise KeyError("bug")

    world = World(scenario(plan=planned(20, 0)), 1, (), [watch])
    world.peers[PROVIDER].strategy = Extra(Scripted(breaks))
    world.run()
    ((index, error, at),) = watch.crashes
    assert index == PROVIDER and error == "KeyError('bug')" and 0.9 * NS < at < 1.1 * NS
    assert not world.peers[PROVIDER].is_up and all(peer.is_up for peer in world.peers if peer.index != PROVIDER)
    assert world.recorder.counts["peers/crashed"] == 1
    assert records(world)[0].state in ("running", "settled"), "the others go on"


def test_a_machine_that_raises_on_a_message_ends_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    world = World(scenario(plan=planned(10, 0)), 1, (), [watch])

    def breaks(self: object, sender: PeerId, message: object, now: Micros) -> list[Effect]:
        raise ZeroDivisionError

    monkeypatch.setattr(Watcher, "receive", breaks)
    world.run()
    assert watch.crashes and all(error == "ZeroDivisionError()" for _, error, _ in watch.crashes)
    assert all(not world.peers[index].is_up for index, _, _ in watch.crashes)


def test_a_machine_that_wakes_itself_for_now_does_not_stop_time() -> None:
    watch = Watch()
    world, machine = with_machine(lambda now: [Wake(now)], watch)
    world.run()
    per_second = NS // TICK_GAP_NS
    assert 3.5 * per_second < len(machine.ticks) < 4.5 * per_second, "one per gap, and one behind each message"
    assert world.queue.now == 5 * NS and not watch.crashes


def test_a_node_that_says_too_much_ends_and_does_nothing_more() -> None:
    watch = Watch()
    world, machine = with_machine(
        lambda now: [Send(world.peers[VALIDATOR].id, huge), Store("late", b"x"), Emit("late", {})], watch
    )
    huge = LogLines(bytes(16), 0, 1, 0, ("x" * 2_000,) * 64)
    world.run()
    ((index, error, _),) = watch.crashes
    assert index == PROVIDER and f"{wire.MESSAGE_BYTES_MAX} allowed" in error
    assert world.peers[PROVIDER].disk.get("late") is None and "emit/late" not in world.recorder.counts
    assert len(machine.ticks) == 1


def test_what_is_not_written_is_not_said() -> None:
    world = awake(scenario(jobs=None))
    peer = world.peers[PROVIDER]
    peer.disk.fill()
    world.driver.perform(peer, [Emit("before", {}), Store("key", b"value"), Emit("after", {})])
    assert not peer.is_up and "emit/before" in world.recorder.counts and "emit/after" not in world.recorder.counts


def test_work_of_an_earlier_boot_is_void() -> None:
    world = awake(scenario(jobs=None))
    peer = world.peers[PROVIDER]
    noted = world.driver.auditor.noted
    world.driver.give(peer, peer.boots - 1, Fetched(Digest(bytes(32)), 1))
    assert world.driver.auditor.noted == noted
    world.driver.give(peer, peer.boots, RunLog("nothing", ()))
    assert world.driver.auditor.noted == noted + 1


def test_the_machine_of_an_earlier_boot_takes_no_command() -> None:
    world = awake(scenario(jobs=None))
    peer = world.peers[PROVIDER]
    old = peer.machines.maker
    world.lifecycle.kill(peer, torn=False)
    world.lifecycle.start(peer)
    with pytest.raises(ValueError, match="earlier boot"):
        world.driver.command(peer, old, lambda now: [])


def test_messages_to_a_dead_peer_vanish_and_ticks_of_it_too() -> None:
    watch = Watch()
    world = ran(scenario(jobs=None, plan=planned(10, 0)), 1, [kill(3, 60, PROVIDER)], watch)
    assert watch.moves.count((PROVIDER, True)) == 1 and not world.peers[PROVIDER].is_up
    assert world.peers[PROVIDER].wake_at == -1


def test_a_statement_reaches_everybody_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = awake(scenario(jobs=None))
    heard: list[int] = []
    monkeypatch.setattr(world.driver, "hear", lambda peer, signer, body, code: heard.append(peer.index))
    maker = world.peers[PROVIDER].machines.maker
    (effect,) = [item for item in maker.tick(Micros(1 << 60)) if isinstance(item, Publish)]
    world.driver.perform(world.peers[PROVIDER], [effect])
    world.queue.run(NS)
    assert sorted(heard) == list(range(len(world.peers)))
