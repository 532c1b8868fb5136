"""The referee of verification games: asks the claims, keeps their clocks, finds the step at issue, says who lost.

Runs on every validator; all see the same openings and come to the same end. A claim loses by a wrong step, by data that
nobody delivers, or by silence, and never by what a third party sends in its name. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protocol.court_messages import (
    BisectOpened,
    BisectRequest,
    LeafOpened,
    LeafRequest,
    LevelOpened,
    LevelRequest,
    PointsOpened,
    PointsRequest,
)
from protocol.effects import Effect, Emit, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from verifier import operators
from verifier.chess_clock import ChessClock
from verifier.game import Dispute, Game, Nodes, game_id
from verifier.operators import Program

ASK_AGAIN: Final = Micros(5 * SECOND)
"""Microseconds until an unanswered question is sent again."""

DATA_TIMEOUT: Final = Micros(2 * MINUTE)
"""Microseconds in which one of the two claims must deliver what the disputed operator reads."""

GAMES_MAX: Final = 256
"""Games at one time: an appeal locks a bond, so that more are not lost, only later."""

Said = Callable[[Digest, Digest | None, str, Micros], list[Effect]]
"""(game, root that won or None, code, now): the end of a game."""

Leaf = Callable[[Digest, Dispute, Micros], list[Effect]]
"""(game, dispute, now): a step is to be computed again by others; answered by `Referee.decide`."""


@dataclass(frozen=True, slots=True)
class Inside:
    """A unit that has a program: the state before it, and behind it by either claim (`operators.state_digest`)."""

    unit: int
    program: Program
    before: bytes
    behind: tuple[bytes, bytes]


Descend = Callable[[Digest, Dispute], Inside | None]
"""What is inside the unit at issue; None: it has no program, and is computed again as a whole."""


@dataclass(slots=True)
class Descent:
    """Both claims say how they got through one unit."""

    inside: Inside
    traces: list[Digest | None] = field(default_factory=lambda: [None, None])


@dataclass(slots=True)
class Step:
    """One operator is at issue; waits for what it reads."""

    program: Program
    dispute: Dispute
    agreed: bytes
    until: Micros


@dataclass(slots=True)
class Match:
    """One game, its clocks, and where it stands."""

    id: Digest
    roots: tuple[Digest, Digest]
    """Of the claims, at the level of units."""
    speakers: tuple[tuple[PeerId, ...], tuple[PeerId, ...]]
    """Whom to ask for each claim; anybody else may answer too."""
    state: Game | Descent | Step | Dispute
    """A `Dispute` waits for others to compute its step."""
    asked: Micros
    clocks: tuple[ChessClock, ChessClock] = field(default_factory=lambda: (ChessClock(), ChessClock()))
    program: Program | None = None
    """Of the unit that is played inside of."""

    def shown(self, side: int) -> Digest:
        """The root that this claim opens leaves of now."""
        return self.state.roots[side] if isinstance(self.state, Game) else self.roots[side]

    def owes(self, side: int) -> bool:
        """Whether the claim is to move."""
        match self.state:
            case Game():
                return bool(self.state.wanted(self.shown(side)))
            case Descent():
                return self.state.traces[side] is None
            case _:
                return False


class Referee:
    """All games at one validator."""

    accepts: tuple[type, ...] = (BisectOpened, PointsOpened, LevelOpened, LeafOpened)

    def __init__(self, said: Said, leaf: Leaf, descend: Descend = lambda game, dispute: None) -> None:
        self._said = said
        self._leaf = leaf
        self._descend = descend
        self.matches: dict[Digest, Match] = {}

    @property
    def is_full(self) -> bool:
        """Whether no other game can begin now."""
        return len(self.matches) >= GAMES_MAX

    def begin(
        self, game: Game, about: bytes, speakers: tuple[tuple[PeerId, ...], tuple[PeerId, ...]], now: Micros
    ) -> list[Effect]:
        """Play a game about something (a place); the one that is on already goes on. Raises `Refused` (`busy`)."""
        name = game_id(*game.roots, about)
        if name in self.matches:
            return []
        if self.is_full:
            raise Refused(f"{GAMES_MAX} games are on", code="busy", fix="Appeal again later.")
        match = Match(name, game.roots, speakers, game, now)
        self.matches[name] = match
        return self._ask(match, now)

    def receive(self, sender: PeerId, message: object, now: Micros) -> list[Effect]:
        """See `accepts`. Raises `RemoteViolation` and changes nothing, but for a claim's own word (`bad_descent`)."""
        if not isinstance(message, BisectOpened | PointsOpened | LevelOpened | LeafOpened):
            raise LocalError(f"{type(message).__name__} is not for the referee", code="not_accepted")
        match = self.matches.get(Digest(message.game))
        if match is None:
            return []
        before = self._late(match, now)
        if before:  # A move after the flag has fallen is no move.
            return before
        if isinstance(message, BisectOpened | PointsOpened):
            return self._opened(sender, match, message, now)
        if isinstance(message, LevelOpened):
            return self._descended(sender, match, message, now)
        return self._delivered(sender, match, message, now)

    def tick(self, now: Micros) -> list[Effect]:
        """Flags that have fallen, questions to ask again."""
        effects: list[Effect] = []
        for match in list(self.matches.values()):
            ended = self._late(match, now)
            effects += ended
            if not ended and now >= match.asked + ASK_AGAIN:
                effects += self._ask(match, now)
        looks = [look for match in self.matches.values() if (look := _next_look(match)) is not None]
        return [*effects, Wake(Micros(max(now, min(looks))))] if looks else effects

    def decide(self, game: Digest, loser: int | None, code: str, now: Micros) -> list[Effect]:
        """The step at issue was computed again: claim 0 or 1 has it wrong; None: both have."""
        match = self.matches.get(game)
        if match is None or not isinstance(match.state, Dispute):
            return []
        return self._end(match, None if loser is None else match.roots[1 - loser], code, now)

    # ── moves ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _opened(self, sender: PeerId, match: Match, message: BisectOpened | PointsOpened, now: Micros) -> list[Effect]:
        game = match.state
        if not isinstance(game, Game) or message.root not in game.roots:
            return []
        root = Digest(message.root)
        if isinstance(message, BisectOpened):
            moved = game.narrow(root, message.level, message.place, message.nodes, sender)
        else:
            moved = game.open(root, message.points, sender)
        self._clocks(match, now)
        if not moved:
            return []
        return self._ask(match, now) if game.dispute is None else self._narrow(match, game.dispute, now)

    def _narrow(self, match: Match, dispute: Dispute, now: Micros) -> list[Effect]:
        """One step is at issue: go inside it, ask for what it reads, or have it computed again."""
        if match.program is not None:
            if dispute.agreed is None:
                raise LocalError("a level that does not begin where the one above does", code="bad_game")
            until = Micros(now + DATA_TIMEOUT)
            match.state = Step(match.program, dispute, dispute.agreed, until)
            return self._ask(match, now)
        inside = self._descend(match.id, dispute)
        if inside is None:
            match.state = dispute
            return self._leaf(match.id, dispute, now)
        match.state = Descent(inside)
        self._clocks(match, now)
        return self._ask(match, now)

    def _descended(self, sender: PeerId, match: Match, message: LevelOpened, now: Micros) -> list[Effect]:
        """How a claim got through the unit. Nothing binds this to its root, so only who speaks for it may say it."""
        state = match.state
        if not isinstance(state, Descent) or message.root not in match.roots:
            return []
        side = match.roots.index(Digest(message.root))
        if sender not in match.speakers[side]:
            raise RemoteViolation(sender, "only who made a claim goes a level deeper for it", code="not_the_speaker")
        if message.unit != state.inside.unit or state.traces[side] is not None:
            return []
        inside, trace = state.inside, Digest(message.trace)
        try:
            operators.check_frame(inside.program, trace, message.data, inside.before, inside.behind[side], sender)
        except RemoteViolation as error:
            return self._end(match, match.roots[1 - side], error.code, now)
        state.traces[side] = trace
        self._clocks(match, now)
        first, second = state.traces
        if first is None or second is None:
            return []
        steps = len(inside.program.operators)
        match.program = inside.program
        match.state = Game(first, second, steps + 1)
        self._clocks(match, now)
        return self._ask(match, now)

    def _delivered(self, sender: PeerId, match: Match, message: LeafOpened, now: Micros) -> list[Effect]:
        """What the operator reads, from anybody: it fits the agreed state or it does not."""
        state = match.state
        if not isinstance(state, Step) or message.index != state.dispute.index:
            return []
        right = operators.recompute(state.program, state.dispute.index, state.agreed, message.data, sender)
        wrong = [side for side, leaf in enumerate(state.dispute.leaves) if leaf != right]
        winner = match.roots[1 - wrong[0]] if len(wrong) == 1 else None
        return self._end(match, winner, "wrong_step", now)

    # ── clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _clocks(self, match: Match, now: Micros) -> None:
        for side, clock in enumerate(match.clocks):
            if match.owes(side):
                clock.start(now)
            else:
                clock.stop(now)

    def _late(self, match: Match, now: Micros) -> list[Effect]:
        """The end of a match whose time is over."""
        out = [side for side, clock in enumerate(match.clocks) if clock.is_out(now)]
        if out:
            first = min(out, key=lambda side: match.clocks[side].deadline or now)
            both = len(out) == 2 and match.clocks[0].deadline == match.clocks[1].deadline
            return self._end(match, None if both else match.roots[1 - first], "silent", now)
        if isinstance(match.state, Step) and now >= match.state.until:
            return self._end(match, None, "withheld", now)
        return []

    def _ask(self, match: Match, now: Micros) -> list[Effect]:
        self._clocks(match, now)
        match.asked = now
        effects: list[Effect] = []
        for side, speakers in enumerate(match.speakers):
            root = match.shown(side)
            question: BisectRequest | PointsRequest | LevelRequest | LeafRequest | None = None
            if isinstance(match.state, Game) and match.owes(side):
                wanted = match.state.wanted(root)
                if isinstance(wanted, Nodes):
                    question = BisectRequest(match.id, root, wanted.level, wanted.place, wanted.depth)
                else:
                    question = PointsRequest(match.id, root, wanted)
            elif isinstance(match.state, Descent) and match.owes(side):
                question = LevelRequest(match.id, root, match.state.inside.unit)
            elif isinstance(match.state, Step):
                question = LeafRequest(match.id, root, match.state.dispute.index)
            effects += [Send(peer, question) for peer in speakers if question is not None]
        return [*effects, Wake(Micros(now + ASK_AGAIN))]

    def _end(self, match: Match, winner: Digest | None, code: str, now: Micros) -> list[Effect]:
        del self.matches[match.id]
        fields: dict[str, str | int] = {"game": match.id.hex(), "winner": (winner or b"").hex(), "code": code}
        return [Emit("game_over", fields), *self._said(match.id, winner, code, now)]


def _next_look(match: Match) -> Micros | None:
    """When a match needs a look if nothing comes in; None while others compute."""
    if isinstance(match.state, Dispute):
        return None
    looks = [clock.deadline for clock in match.clocks if clock.deadline is not None]
    if isinstance(match.state, Step):
        looks.append(match.state.until)
    return min([Micros(match.asked + ASK_AGAIN), *looks])
