"""The provider opens its trace: first the claimed effects of all units, then the leaves that the challenge asks for.

Two rounds, because the largest effects are part of the choice, and both are bound by the root in the claim. Who does
not open in time withholds; who opens what is not under the root is caught at it. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from protocol.effects import Effect, Send, Wake
from protocol.errors import Refused, RemoteViolation
from protocol.messages import UnitsOpened, UnitsRequest
from protocol.units import Micros, PeerId
from verifier import challenge, openings
from verifier.audits import Audits
from verifier.bench import Bench
from verifier.case import Case, Gathering, Unfolding
from verifier.deadlines import UNITS_TIMEOUT, next_look
from verifier.openings import effects_of


class Traces:
    """Every trace that one judge has opened."""

    def __init__(self, bench: Bench, audits: Audits) -> None:
        self._bench = bench
        self._audits = audits

    def begin(self, case: Case, now: Micros) -> list[Effect]:
        """Ask for the effects."""
        return self._ask(case, (), now)

    def _ask(self, case: Case, indices: tuple[int, ...], now: Micros) -> list[Effect]:
        case.state = Unfolding(indices, Micros(now + UNITS_TIMEOUT), now)
        return [Send(case.provider, UnitsRequest(*case.place, indices)), Wake(next_look(case))]

    def opened(self, sender: PeerId, message: UnitsOpened, now: Micros) -> list[Effect]:
        """The provider's answer, in either round."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        if sender != case.provider:
            raise RemoteViolation(sender, "leaves from a peer that did not claim", code="not_the_provider")
        if not isinstance(case.state, Unfolding):
            return self._late(case, message)
        indices, facts = case.state.indices, case.facts
        assert facts is not None
        if indices and not message.openings:
            return []  # An echo of the first round.
        try:
            unfolded = openings.unfold(case.trace, case.units, message, indices)
        except Refused as error:
            return self._bench.decide(case, "severe", error.code, now)
        case.unfolded = unfolded
        if indices:
            return self._audits.begin(case, "work", now)
        touch = challenge.may_touch(facts.kind, facts.numeric)
        effects = effects_of(message.effects)
        return self._ask(case, challenge.indices(case.seed, case.units, facts.samples, effects, touch), now)

    def late(self, case: Case, now: Micros) -> list[Effect]:
        """Time is over, or it is time to ask again."""
        assert isinstance(case.state, Unfolding)
        if now >= case.state.until:
            return self._bench.decide(case, "withheld", "withheld", now)
        case.state = Unfolding(case.state.indices, case.state.until, now)
        return [Send(case.provider, UnitsRequest(*case.place, case.state.indices))]

    def _late(self, case: Case, message: UnitsOpened) -> list[Effect]:
        """Nobody waits for it: an echo, another story, or an answer to no question."""
        if case.unfolded is None:
            where = "yet" if isinstance(case.state, Gathering) else "of this claim"
            raise Refused(f"no leaves were asked for {where}", code="too_early", fix="Wait for the request.")
        known = {index: leaf for index, leaf in case.unfolded.leaves.items() if index in case.unfolded.indices}
        told = {opening.leaf.index: opening.leaf for opening in message.openings}
        if message.effects != case.unfolded.effects or (told and told != known):
            raise RemoteViolation(case.provider, "the trace was opened another way before", code="equivocation")
        return []
