"""Two claims, their advocates, a referee, and a line between them that loses, repeats and reorders messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from protocol.effects import Effect, Send
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.messages import Message
from protocol.units import SECOND, Digest, Micros, PeerId
from verifier.advocate import Advocate, Held, claim_of
from verifier.game import Dispute, Game
from verifier.referee import Descend, Referee

NOW: Final = Micros(1_000_000 * SECOND)
REFEREE, FIRST, SECOND_PEER, STRANGER = (Identity(bytes([n]) * 32).peer for n in (61, 62, 63, 64))
ABOUT: Final = b"place"
STEP: Final = Micros(SECOND // 2)
"""What a message takes on average."""


def history(count: int, seed: int, change: int | None = None, salt: bytes = b"x") -> tuple[bytes, ...]:
    """A chain of states, each made from the one before; from leaf `change` on it is another one."""
    states, state = [], b"start %d" % seed
    for index in range(count):
        if index == change:
            state = hashlib.sha256(salt + state).digest()
        states.append(b"%d %s" % (index, hashlib.sha256(state).digest()))
        state = hashlib.sha256(b"step" + state).digest()
    return tuple(states)


@dataclass
class Ended:
    """How a game ended."""

    winner: Digest | None
    code: str
    at: Micros


@dataclass
class Duel:
    """One game. `truth` decides a step that is computed again: the right leaf behind an agreed one."""

    first: Held
    second: Held
    truth: tuple[bytes, ...]
    seed: int = 0
    loss: float = 0.0
    silent: frozenset[PeerId] = frozenset()
    parts: int = 8
    descend: Descend = lambda game, dispute: None
    tamper: Callable[[Message], Message] = lambda message: message
    ended: Ended | None = None
    bytes_sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.referee = Referee(self._said, self._leaf, self.descend)
        one, other = Advocate(lambda: (REFEREE,)), Advocate(lambda: (REFEREE,))
        one.held[self.first.tree.root], other.held[self.second.tree.root] = self.first, self.second
        self.machines = {FIRST: one, SECOND_PEER: other}
        self.dice = Random(self.seed)
        self.now = NOW
        self.line: list[tuple[Micros, int, PeerId, PeerId, Message]] = []
        self.sent = 0

    def _said(self, game: Digest, winner: Digest | None, code: str, now: Micros) -> list[Effect]:
        self.ended = Ended(winner, code, now)
        return []

    def _leaf(self, game: Digest, dispute: Dispute, now: Micros) -> list[Effect]:
        """Two honest machines would take this long to compute one step again."""
        wrong = [side for side, leaf in enumerate(dispute.leaves) if leaf != self.truth[dispute.index]]
        self.line.append((Micros(now + SECOND), -1, REFEREE, REFEREE, (game, wrong)))  # type: ignore[arg-type]
        return []

    def play(self) -> Ended:
        game = Game(self.first.tree.root, self.second.tree.root, len(self.truth), self.parts)
        self.put(REFEREE, self.referee.begin(game, ABOUT, ((FIRST,), (SECOND_PEER,)), self.now))
        while self.ended is None:
            assert self.now < NOW + 3600 * SECOND, "a game without an end"
            self.line.sort(key=lambda item: item[:2])
            if self.line and self.line[0][0] <= self.now:
                _, number, sender, to, message = self.line.pop(0)
                self.deliver(number, sender, to, message)
            else:
                self.now = Micros(min([self.now + SECOND, *(item[0] for item in self.line)]))
                self.put(REFEREE, self.referee.tick(self.now))
        return self.ended

    def deliver(self, number: int, sender: PeerId, to: PeerId, message: Message) -> None:
        if number < 0:
            game, wrong = message  # type: ignore[misc]
            self.put(REFEREE, self.referee.decide(game, wrong[0] if len(wrong) == 1 else None, "wrong_step", self.now))
        elif to == REFEREE:
            self.put(REFEREE, self.referee.receive(sender, self.tamper(message), self.now))
        elif to not in self.silent:
            try:
                self.put(to, self.machines[to].receive(sender, message, self.now))
            except Refused as error:  # A claim that does not record its units has nothing to say inside of one.
                assert error.code in ("no_tape", "no_such_leaf")

    def put(self, sender: PeerId, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Send):
                continue
            self.bytes_sent.append(effect.message)
            for _ in range(self.dice.choice((1, 1, 1, 2))):
                if self.dice.random() >= self.loss:
                    self.sent += 1
                    delay = self.dice.randrange(1, 4 * STEP)
                    self.line.append((Micros(self.now + delay), self.sent, sender, effect.peer, effect.message))


def duel(count: int, change: int, honest_first: bool = True, **more: object) -> Duel:
    """An honest claim against one that differs from leaf `change` on."""
    truth = history(count, 1)
    good, bad = claim_of(truth), claim_of(history(count, 1, change))
    return Duel(*((good, bad) if honest_first else (bad, good)), truth, **more)  # type: ignore[arg-type]
