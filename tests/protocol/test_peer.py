"""Routing and wake-ups of a peer."""

from __future__ import annotations

from protocol.completions import Completion, Fetched
from protocol.effects import Effect, Emit, Fail, Wake
from protocol.errors import RemoteViolation
from protocol.greetings import Goodbye
from protocol.messages import Beat, Message
from protocol.peer import Peer
from protocol.units import Digest, Micros, PeerId

SENDER = PeerId(bytes(32))


class Echo:
    """Says what it heard and wants to be woken a little later."""

    def __init__(self, name: str, *kinds: type) -> None:
        self.accepts = kinds
        self.name = name
        self.ticks: list[int] = []

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        if isinstance(message, Goodbye):
            raise RemoteViolation(sender, "rude")
        return [Emit(self.name, {"kind": type(message).__name__}), Wake(Micros(now + 10))]

    def tick(self, now: Micros) -> list[Effect]:
        self.ticks.append(now)
        return []


def test_each_message_reaches_every_machine_that_takes_it() -> None:
    peer = Peer([Echo("a", Fetched, Beat), Echo("b", Fetched)])
    effects = peer.receive(SENDER, Fetched(Digest(bytes(32)), 1), Micros(0))
    assert [effect.name for effect in effects if isinstance(effect, Emit)] == ["a", "b"]


def test_a_message_that_nobody_takes_is_dropped() -> None:
    assert Peer([Echo("a", Beat)]).receive(SENDER, Fetched(Digest(bytes(32)), 1), Micros(0)) == []


def test_a_refusal_by_one_machine_does_not_keep_it_from_another() -> None:
    class Polite(Echo):
        def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
            return [Emit(self.name, {})]

    effects = Peer([Echo("a", Goodbye), Polite("b", Goodbye)]).receive(SENDER, Goodbye("bye"), Micros(0))
    assert isinstance(effects[0], Fail) and effects[1] == Emit("b", {})


def test_wake_ups_stay_inside_and_come_once() -> None:
    machine = Echo("a", Fetched)
    peer = Peer([machine])
    peer.tick(Micros(0))
    assert machine.ticks == [0]
    for _ in range(3):
        assert not any(isinstance(e, Wake) for e in peer.receive(SENDER, Fetched(Digest(bytes(32)), 1), Micros(5)))
    wake = peer.next_wake
    assert wake == 15
    peer.tick(Micros(14))
    peer.tick(Micros(15))
    peer.tick(Micros(16))
    assert machine.ticks == [0, 15]


def test_a_machine_that_is_called_by_another_is_woken_itself() -> None:
    """Found by the simulator: the ledger client's wake-ups went to its callers, and nothing was ever sent again."""
    called, caller = Echo("called", Beat), Echo("caller", Beat)
    peer = Peer([called, caller])
    peer.tick(Micros(0))
    assert peer.absorb(peer.index(caller), [Wake(Micros(5), called)]) == []
    peer.tick(Micros(5))
    assert (called.ticks, caller.ticks) == ([0, 5], [0])
