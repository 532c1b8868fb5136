"""Decides the last step of a verification game: has one unit replayed, blind, and tells whose leaf is wrong.

D0 and D1: every referee replays it itself. D2: three machines of the claim's class. D3: three machines, each of which
is compared with both claims within the job's tolerance; the claim in possession wins where both are within it.
Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from protocol import wire
from protocol.completions import Fetched, FetchFailed, Scored
from protocol.effects import Compute, Effect, Fetch, Score, ScoreItem, Wake
from protocol.errors import RemoteViolation
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditRequest, AuditReveal
from protocol.proof import Results, UnitResult
from protocol.units import KIB, MINUTE, SECOND, Digest, Micros, PeerId
from verifier.game import Dispute
from verifier.leaf_question import Question, Settled, blind, question
from verifier.panel import Panel
from verifier.score import SECOND as SCORE_MIN
from verifier.summons import Summons
from verifier.views import Facts

STEP_TIME: Final = Micros(10 * MINUTE)
"""Microseconds in which one unit is fetched and replayed, at most; the chunk's own limit where that is less."""

READ_TIME: Final = Micros(5 * MINUTE)
"""Microseconds to fetch what the members got, and to compare it."""

ASK_AGAIN: Final = Micros(5 * SECOND)
"""Microseconds until an unanswered request is sent again."""

RESULTS_BYTES_MAX: Final = 64 * KIB
"""Bytes of an encoded `Results` of one unit, with room."""

_results: Final = wire.decoder(Results)

Decide = Callable[[Digest, int | None, str, Micros], list[Effect]]
"""(game, claim that is wrong or None for both, code, now): `Referee.decide`."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a step at issue belongs to, and who is to replay it."""

    request: AuditRequest
    """For the whole chunk; the unit is put in here."""
    facts: Facts
    claimed: Digest
    """Output of claim 0."""
    speakers: tuple[PeerId, PeerId]
    summons: Summons


@dataclass(slots=True)
class Step:
    """One step at issue."""

    game: Digest
    seat: Seat
    question: Question
    panel: Panel
    asked: Micros
    results: dict[PeerId, UnitResult] = field(default_factory=dict)
    wrong: dict[PeerId, tuple[int, ...]] = field(default_factory=dict)
    """By member whose replay was compared: the claims that it refutes."""
    scored: dict[tuple[PeerId, int], bool] = field(default_factory=dict)
    """D3: (member, claim) -> within the tolerance."""
    is_reading: bool = False


class Arbiter:
    """All steps at issue at one validator."""

    def __init__(self, decide: Decide, read_blob: Callable[[Digest], bytes]) -> None:
        self._decide = decide
        self._read_blob = read_blob
        self.steps: dict[Digest, Step] = {}

    def begin(self, game: Digest, dispute: Dispute, seat: Seat, now: Micros) -> list[Effect]:
        """A game has come down to one leaf."""
        asked = question(dispute, seat.facts)
        if isinstance(asked, Settled):
            return self._end(game, asked.wrong, asked.code, now)
        request = seat.request
        if asked.what != "whole":
            request = _of_unit(request, asked, game)
        limit = Micros(min(STEP_TIME, 2 * seat.facts.timeout + READ_TIME))
        panel = Panel.of(request, seat.summons, now, limit, Micros(now + 2 * limit))
        self.steps[game] = Step(game, seat, asked, panel, now)
        return [*panel.ask(), Wake(Micros(now + ASK_AGAIN))]

    def committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        place = (message.escrow, message.chunk, message.epoch)
        return [
            effect
            for step in list(self.steps.values())
            if step.panel.place == place
            for effect in step.panel.committed(sender, message, now)
        ]

    def revealed(self, sender: PeerId, message: AuditReveal, now: Micros) -> list[Effect]:
        place = (message.escrow, message.chunk, message.epoch)
        effects: list[Effect] = []
        for step in list(self.steps.values()):
            if step.panel.place == place and step.panel.revealed(sender, message):
                effects += self._read(step, now)
        return effects

    def fetched(self, message: Fetched, now: Micros) -> list[Effect]:
        """A member's results are here."""
        effects: list[Effect] = []
        for step in list(self.steps.values()):
            members = [peer for peer, vote in step.panel.votes.items() if vote == message.digest]
            if not step.is_reading or not members or members[0] in step.results or members[0] in step.wrong:
                continue
            try:
                results = wire.decode(self._read_blob(Digest(message.digest)), _results, members[0], RESULTS_BYTES_MAX)
                unit = next(item for item in results.units if item.index == step.question.unit)
            except (RemoteViolation, StopIteration):
                step.panel.votes = {peer: vote for peer, vote in step.panel.votes.items() if peer not in members}
                effects += self._count(step, now)
                continue
            step.results |= dict.fromkeys(members, unit)
            effects += self._compare(step, members, unit, now)
        return effects

    def fetch_failed(self, message: FetchFailed, now: Micros) -> list[Effect]:
        """Nobody delivers what these members say they got: no vote."""
        effects: list[Effect] = []
        for step in list(self.steps.values()):
            if step.is_reading and message.digest in step.panel.votes.values():
                kept = {peer: vote for peer, vote in step.panel.votes.items() if vote != message.digest}
                step.panel.votes = kept
                effects += self._count(step, now)
        return effects

    def scored(self, message: Scored, now: Micros) -> list[Effect]:
        """A member's unit was compared with one of the claims."""
        for step in list(self.steps.values()):
            for member in step.results:
                for side in (0, 1):
                    if message.task == _task(step.game, member, side):
                        fine = message.score >= SCORE_MIN and message.fault != "provider"
                        step.scored[member, side] = fine
            for member in step.results:
                sides = [step.scored.get((member, side)) for side in (0, 1)]
                if None not in sides:
                    step.wrong[member] = tuple(side for side, fine in enumerate(sides) if not fine)
            if message.task.startswith(step.game.hex()):
                return self._count(step, now)
        return []

    def tick(self, now: Micros) -> list[Effect]:
        """Deadlines, and requests to send again."""
        effects: list[Effect] = []
        for step in list(self.steps.values()):
            if now >= step.panel.until:
                following = None if step.is_reading else step.panel.late(now)
                if following:
                    effects += following
                elif step.is_reading:
                    effects += self._conclude(step, now)
                else:
                    effects += self._read(step, now)
            elif not step.is_reading and now >= step.asked + ASK_AGAIN:
                step.asked = now
                effects += [*step.panel.ask(), Wake(Micros(now + ASK_AGAIN))]
        return effects

    # ── what the members got ─────────────────────────────────────────────────────────────────────────────────────────
    def _read(self, step: Step, now: Micros) -> list[Effect]:
        """All have opened: of a whole chunk the outputs decide, of a unit the results are fetched."""
        step.panel.close()
        step.panel.votes = {peer: vote for peer, vote in step.panel.votes.items() if any(vote)}
        step.is_reading = True
        step.panel.until = Micros(now + READ_TIME)
        if step.question.what == "whole":
            for peer, vote in step.panel.votes.items():
                step.wrong[peer] = (1,) if vote == step.seat.claimed else (0,)
            return self._count(step, now)
        step.wrong |= dict.fromkeys(step.panel.broken, (0, 1))  # Both stand behind a state that nobody can go on from.
        wanted = {vote: peer for peer, vote in step.panel.votes.items()}
        fetches = [Compute(Fetch(vote, RESULTS_BYTES_MAX, (peer,))) for vote, peer in wanted.items()]
        return [*fetches, Wake(step.panel.until)] if fetches else self._conclude(step, now)

    def _compare(self, step: Step, members: Sequence[PeerId], unit: UnitResult, now: Micros) -> list[Effect]:
        if step.seat.facts.is_exact:
            step.wrong |= dict.fromkeys(members, step.question.wrong(unit))
            return self._count(step, now)
        return [Compute(_score(step, member, side, unit)) for member in members for side in (0, 1)]

    def _count(self, step: Step, now: Micros) -> list[Effect]:
        """Every replay that can be had was compared."""
        return self._conclude(step, now) if set(step.wrong) >= set(step.panel.votes) else []

    def _conclude(self, step: Step, now: Micros) -> list[Effect]:
        """A claim is wrong that more than half of the members refute. Whose states nobody could get has withheld them;
        without enough replays otherwise the claim in possession stays."""
        enough = step.panel.enough
        if len(step.panel.blaming) >= enough:
            return self._end(step.game, (0,), "withheld", now)
        wrong = tuple(side for side in (0, 1) if sum(side in found for found in step.wrong.values()) >= enough)
        code = "wrong_step" if wrong else "within_tolerance" if len(step.wrong) >= enough else "not_replayed"
        return self._end(step.game, wrong or (1,), code, now)

    def _end(self, game: Digest, wrong: tuple[int, ...], code: str, now: Micros) -> list[Effect]:
        self.steps.pop(game, None)
        return self._decide(game, wrong[0] if len(wrong) == 1 else None, code, now)


def _of_unit(request: AuditRequest, asked: Question, game: Digest) -> AuditRequest:
    return structs.replace(request, units=(blind(asked.start),), seed=game)


def _task(game: Digest, member: PeerId, side: int) -> str:
    return f"{game.hex()}-{member.hex()[:16]}-{side}"


def _score(step: Step, member: PeerId, side: int, unit: UnitResult) -> Score:
    """Compare one member's replay with one claim."""
    asked, facts = step.question, step.seat.facts
    said = asked.said[side]
    claimed = said.state if asked.what == "state" else ZERO_DIGEST
    aux = asked.start.aux if asked.what == "state" else said.aux
    item = ScoreItem(
        asked.unit,
        Digest(asked.start.state),
        Digest(claimed),
        Digest(unit.state),
        Digest(aux),
        Digest(unit.aux),
    )
    task = _task(step.game, member, side)
    return Score(task, facts.kind, facts.tolerance, (item,), step.seat.speakers[side], member)
