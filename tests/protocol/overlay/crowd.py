"""A crowd of directories in one process: virtual time, delays, peers that come, go, lie and are cut off."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random

from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.overlay.directory import Directory
from protocol.overlay.directory_effects import Ask, Done, Effect, Fault
from protocol.overlay.own_record import Profile
from protocol.overlay.questions import Question, Reply
from protocol.units import SECOND, Digest, Micros, PeerId

NETWORK = "reef"
START = Micros(1_700_000_000 * SECOND)
TIMEOUT = 5 * SECOND


def identity_of(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def address_of(number: int) -> str:
    """Everybody in a network of its own, as home connections are."""
    return f"/ip4/11.{number // 250 % 250}.{number % 250}.7/tcp/4301"


class Member:
    """One peer of the crowd; a liar overrides `answer`."""

    def __init__(self, crowd: Crowd, number: int, address: str = "") -> None:
        self.crowd = crowd
        self.identity = identity_of(number)
        self.peer = self.identity.peer
        self.address = address or address_of(number)
        self.directory = Directory(self.identity, NETWORK, Random(number))
        self.is_up = True
        self.island = 0

    def answer(self, sender: PeerId, question: Question) -> Reply:
        reply, effects = self.directory.answer(sender, question, self.crowd.now)
        self.crowd.perform(self, effects)
        return reply


class Crowd:
    """Everybody, and the clock."""

    def __init__(self, seed: int = 1) -> None:
        self.now = START
        self.dice = Random(seed)
        self.members: dict[PeerId, Member] = {}
        self.done: dict[tuple[PeerId, int], Done] = {}
        self.faults: list[RemoteViolation] = []
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, member: Member) -> Member:
        self.members[member.peer] = member
        self.perform(member, member.directory.announce(Profile(addresses=(member.address,)), self.now))
        self.at(SECOND, lambda: self.ticked(member))
        return member

    def grow(self, numbers: Iterable[int], bootstraps: list[PeerId]) -> list[Member]:
        """Newcomers, half a second apart, each told of the same bootstraps."""
        added = []
        for number in numbers:
            member = self.add(Member(self, number))
            member.directory.suggest(bootstraps)
            self.perform(member, member.directory.join(self.now))
            added.append(member)
            self.run(SECOND // 2)
        return added

    def ticked(self, member: Member) -> None:
        if member.is_up:
            self.perform(member, member.directory.tick(self.now))
            self.at(SECOND, lambda: self.ticked(member))

    def at(self, after: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + after, self._count, action))

    def run(self, span: int) -> None:
        end = Micros(self.now + span)
        while self._heap and self._heap[0][0] <= end:
            at, _, action = heapq.heappop(self._heap)
            self.now = Micros(max(self.now, at))
            action()
        self.now = end

    def perform(self, member: Member, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Ask():
                    self._send(member, effect)
                case Done():
                    self.done[member.peer, effect.number] = effect
                case Fault():
                    self.faults.append(effect.violation)

    def look_up(self, member: Member, key: Digest, patience: int = 60 * SECOND) -> Done:
        number, effects = member.directory.look_up(key, self.now)
        self.perform(member, effects)
        end = self.now + patience
        while (member.peer, number) not in self.done and self.now < end:
            self.run(SECOND // 10)
        return self.done[member.peer, number]

    def _send(self, asker: Member, ask: Ask) -> None:
        other = self.members.get(ask.peer)
        delay = self.dice.randrange(10_000, 80_000)
        if other is None or not other.is_up or other.island != asker.island:
            self.at(TIMEOUT, lambda: self._failed(asker, ask))
        else:
            self.at(delay, lambda: self._arrive(asker, other, ask, delay))

    def _arrive(self, asker: Member, other: Member, ask: Ask, delay: int) -> None:
        if not other.is_up or other.island != asker.island:
            self.at(TIMEOUT - delay, lambda: self._failed(asker, ask))
            return
        try:
            reply = other.answer(asker.peer, ask.question)
        except (Refused, RemoteViolation):
            self.at(delay, lambda: self._failed(asker, ask))
            return
        self.at(delay, lambda: self._answered(asker, ask, reply))

    def _answered(self, asker: Member, ask: Ask, reply: Reply) -> None:
        if asker.is_up:
            self.perform(asker, asker.directory.receive(ask.number, reply, self.now))

    def _failed(self, asker: Member, ask: Ask) -> None:
        if asker.is_up:
            self.perform(asker, asker.directory.failed(ask.number, self.now))
