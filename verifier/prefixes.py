"""Who is at fault for a bad unit that a provider did not compute, but went on from: whoever signed for it.

A claim that went on from a snapshot carries the words of the providers before (`Inherited`). The oldest one that covers
the bad unit is asked about: when the claim's provider opens that very unit under the root that was signed, the fault is
the signer's, else its own. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.effects import Effect, Send, Wake
from protocol.errors import Refused, RemoteViolation
from protocol.inheritance import BLAMABLE
from protocol.messages import PrefixOpened, PrefixRequest
from protocol.operations import Inherited
from protocol.proof import Leaf
from protocol.units import Micros, PeerId
from verifier import trace
from verifier.bench import Bench
from verifier.case import Case, Charge, Decided, Tracing
from verifier.deadlines import PREFIX_TIMEOUT, next_look


def suspect(inherited: Sequence[Inherited], units: Collection[int]) -> tuple[Inherited, int] | None:
    """The word that answers for these bad units, and the unit to ask about; None: the claim's own provider does.

    Whoever has a bad unit of its own among them is at fault itself, whatever it has inherited besides."""
    if not units or not inherited or max(units) >= inherited[-1].units:
        return None
    first = min(units)
    return next(entry for entry in inherited if entry.units > first), first


def is_theirs(entry: Inherited, unit: int, opened: PrefixOpened, before: Leaf, after: Leaf) -> bool:
    """Whether the opening shows that the signer of `entry` made this unit as it was claimed. `before` and `after`: the
    claim's leaves `unit` and `unit` + 1."""
    try:
        first = trace.check_opening(entry.root, entry.units, opened.before)
        second = trace.check_opening(entry.root, entry.units, opened.after)
    except Refused:
        return False
    is_end = unit + 1 == entry.units  # There the signer had not begun the next unit: its leaf holds the state alone.
    same = (second.state, second.state_bytes) == (after.state, after.state_bytes) if is_end else second == after
    return first == before and second.index == unit + 1 and same


class Prefixes:
    """The last question of a case: whose unit was it?"""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def accuse(self, case: Case, charge: Charge, now: Micros) -> list[Effect]:
        """Decide, or first ask the provider whom it had the bad unit from."""
        found = suspect(case.inherited, charge.units) if charge.outcome in BLAMABLE else None
        if found is None:
            return self._bench.sign(case, charge, now)
        entry, unit = found
        case.state = Tracing(charge, entry, unit, Micros(now + PREFIX_TIMEOUT), now)
        return [_ask(case, case.state), Wake(next_look(case))]

    def opened(self, sender: PeerId, message: PrefixOpened, now: Micros) -> list[Effect]:
        """The provider's answer: one is taken."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        if sender != case.provider:
            raise RemoteViolation(sender, "leaves from a peer that did not claim", code="not_the_provider")
        state = case.state
        if isinstance(state, Decided):
            return []  # An echo, or too late.
        if not isinstance(state, Tracing) or case.unfolded is None:
            raise Refused("nobody asked for an inherited unit of it", code="too_early", fix="Wait for the request.")
        leaves, is_meant = case.unfolded.leaves, message.inherited == state.entry.epoch
        before, after = leaves[state.unit], leaves[state.unit + 1]
        is_proven = is_meant and is_theirs(state.entry, state.unit, message, before, after)
        return self._bench.sign(case, state.charge, now, state.entry.epoch if is_proven else 0)

    def late(self, case: Case, now: Micros) -> list[Effect]:
        """Time is over: the unit is its own. Or it is time to ask again."""
        state = case.state
        assert isinstance(state, Tracing)
        if now >= state.until:
            return self._bench.sign(case, state.charge, now)
        case.state = Tracing(state.charge, state.entry, state.unit, state.until, now)
        return [_ask(case, state)]


def _ask(case: Case, state: Tracing) -> Effect:
    return Send(case.provider, PrefixRequest(*case.place, state.entry.epoch, state.unit))
