"""The court of appeal on each validator: panels of three and of seven, and at last the game.

Appeal ordered → panel drawn by its block → blind, sealed, opened → majority → ruling signed. The third instance plays
the game between the claim's trace and the appellant's. Every wait has a deadline; without a ruling in the ledger's time
the finding stands, so a court that cannot agree costs nobody anything. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import UNSET
from msgspec.structs import replace

from protocol import wire
from protocol.block import header_hash
from protocol.completions import Completion, Fetched, FetchFailed, Scored
from protocol.court_messages import BisectOpened, LeafOpened, LevelOpened, PointsOpened
from protocol.effects import Compute, Effect, Fetch, Send, Wake
from protocol.errors import LocalError, RemoteViolation
from protocol.held import held_id
from protocol.jobspec import JobSpec
from protocol.ledger import operation_decoder
from protocol.messages import AuditCommit, AuditReveal, Message, Receipts, Submit
from protocol.operations import Appeal
from protocol.units import MINUTE, SECOND, Digest, Micros, PeerId
from verifier.arbiter import Arbiter
from verifier.bailiff import Bailiff
from verifier.case import Place
from verifier.docket import (
    Docket,
    Gathering,
    Playing,
    Rehearsing,
    Ruled,
    Sitting,
    Trial,
    barred,
    inherited,
    trial_seed,
)
from verifier.game import Dispute, Game
from verifier.panel import SEATS, VOTES_MIN, Panel
from verifier.referee import Referee
from verifier.rehearing import Rehearing
from verifier.summons import Summons, order, summon
from verifier.views import Facts, outputs_read

SPEC_TIMEOUT: Final = Micros(60 * SECOND)
"""Microseconds to get a specification, which renter, steward and provider all hold."""

ASK_AGAIN: Final = Micros(5 * SECOND)
"""Microseconds until a request or a ruling that got no answer is sent again."""

AUDIT_MARGIN: Final = Micros(2 * MINUTE)
"""Microseconds that a distant member gets on top of twice the chunk's time limit."""

RULE_MARGIN: Final = Micros(60 * SECOND)
"""Microseconds before the ledger's deadline at which waiting ends: openings, one block."""

RULE_SHARE: Final = 6
"""Where so many margins are more than the time there is, the margin is this part of it."""

SPEC_BYTES_MAX: Final = 16 << 20
"""Bytes of an encoded specification."""

_spec_decoder: Final = wire.decoder(JobSpec)


class Court:
    """All appeals at one validator."""

    accepts: tuple[type, ...] = (
        *(Receipts, AuditCommit, AuditReveal, Fetched, FetchFailed, Scored),
        *(BisectOpened, PointsOpened, LevelOpened, LeafOpened),
    )

    def __init__(self, bailiff: Bailiff) -> None:
        self._bailiff = bailiff
        self.docket = Docket()
        self.referee = Referee(self._game_over, self._leaf)
        self.arbiter = Arbiter(self.referee.decide, bailiff.read_blob)

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        match message:
            case Receipts():
                return self._ordered(message, now) if sender == self._bailiff.identity.peer else []
            case AuditCommit():
                return [*self._committed(sender, message, now), *self.arbiter.committed(sender, message, now)]
            case AuditReveal():
                return [*self._revealed(sender, message, now), *self.arbiter.revealed(sender, message, now)]
            case Fetched():
                return [*self._fetched(Digest(message.digest), message.size, now), *self.arbiter.fetched(message, now)]
            case FetchFailed():
                gone = Digest(message.digest)
                return [*self._rehear(lambda item: item.gone(gone), now), *self.arbiter.fetch_failed(message, now)]
            case Scored():
                return [*self._rehear(lambda item: item.scored(message), now), *self.arbiter.scored(message, now)]
            case PointsOpened() if self._rehearing(message.game) is not None:
                return self._rehear(lambda item: item.points(sender, message, now), now, message.game)
            case BisectOpened() | PointsOpened() | LevelOpened() | LeafOpened():
                return self.referee.receive(sender, message, now)
            case _:
                raise LocalError(f"{type(message).__name__} is not for the court", code="not_accepted")

    def tick(self, now: Micros) -> list[Effect]:
        """Every deadline that has passed."""
        effects: list[Effect] = []
        for trial in list(self.docket.trials.values()):
            held = self._bailiff.ledger().held.get(held_id(*trial.place))
            if held is None or held.appeal != trial.appeal:
                del self.docket.trials[trial.place]
            else:
                effects += self._late(trial, now)
        held_now = self._bailiff.ledger().held
        over = [place for place in self.docket.seeds if (item := held_now.get(held_id(*place))) is None or item.end]
        effects += [self.docket.forget(place) for place in over]
        effects += [*self.arbiter.tick(now), *self.referee.tick(now)]
        return [*effects, Wake(Micros(now + ASK_AGAIN))] if self.docket.trials else effects

    def restore(self, records: Iterable[tuple[str, bytes]], now: Micros) -> list[Effect]:
        """After a restart: take up every appeal that the ledger still waits for."""
        self.docket.read(records)
        ledger = self._bailiff.ledger()
        effects: list[Effect] = []
        for held in ledger.held.values():
            if held.appeal and not held.end:
                place = (held.escrow, held.chunk, held.epoch)
                effects += self._open(place, Micros(now - ledger.time), now)
        return effects

    # ── opening a trial ──────────────────────────────────────────────────────────────────────────────────────────────
    def _ordered(self, receipts: Receipts, now: Micros) -> list[Effect]:
        effects: list[Effect] = []
        for signed, receipt in zip(receipts.operations, receipts.receipts, strict=True):
            operation = wire.decode(signed.body, operation_decoder, self._bailiff.identity.peer)
            if receipt.outcome.status == "applied" and isinstance(operation, Appeal):
                place = (operation.escrow, operation.chunk, operation.epoch)
                effects += self._enter(place, signed.op_id, trial_seed(signed.op_id, header_hash(receipts.header)))
                effects += self._open(place, Micros(now - receipts.header.time), now)
        return effects

    def _enter(self, place: Place, appeal: bytes, seed: bytes) -> list[Effect]:
        """Draw the order of the panel from the ledger as the appeal's block left it."""
        ledger = self._bailiff.ledger()
        held, escrow = ledger.held.get(held_id(*place)), ledger.escrows.get(place[0])
        known = self.docket.trials.get(place)
        if known is not None and known.appeal == appeal:
            return []  # Ordered again, with other signatures beside the appellant's: its panel is drawn.
        if held is None or escrow is None or held.appeal != appeal:
            return []
        return self.docket.enter(place, seed, order(seed, place, self._bailiff.roll(), barred(held, escrow)))

    def _open(self, place: Place, lag: Micros, now: Micros) -> list[Effect]:
        """`lag` = our clock less the ledger's, microseconds."""
        ledger = self._bailiff.ledger()
        held, escrow = ledger.held.get(held_id(*place)), ledger.escrows.get(place[0])
        seed = self.docket.seeds.get(place)
        if held is None or escrow is None or seed is None or not held.appeal or place in self.docket.trials:
            return []
        trial = Trial(
            place=place,
            appeal=held.appeal,
            round=held.round + 1,
            seed=seed,
            due=_due(Micros(held.rule_by + lag), now),
            provider=PeerId(held.payee),
            appellant=PeerId(held.appellant),
            speaker=PeerId(held.speaker or held.appellant),
            renter=PeerId(escrow.owner),
            steward=PeerId(escrow.steward),
            spec=Digest(escrow.spec),
            finding=held.finding,
            claimed=Digest(held.output or bytes(32)),
            trace=held.trace,
            rival=held.rival,
            order=self.docket.orders[place],
            barred=barred(held, escrow),
            inherited=inherited(escrow, place),
            state=Gathering(Micros(now + SPEC_TIMEOUT), now),
        )
        self.docket.trials[place] = trial
        return [_spec_of(trial), Wake(Micros(now + ASK_AGAIN))]

    def _fetched(self, digest: Digest, size: int, now: Micros) -> list[Effect]:
        """The specification of an appealed claim is here, or what a member of a panel got."""
        effects = self._rehear(lambda item: item.fetched(digest, self._bailiff.read_blob), now)
        for trial in list(self.docket.trials.values()):
            if trial.spec != digest or not isinstance(trial.state, Gathering):
                continue
            try:
                spec = wire.decode(self._bailiff.read_blob(digest), _spec_decoder, trial.provider, SPEC_BYTES_MAX)
            except RemoteViolation:
                effects += self._rule(trial, None, "bad_spec", now)
                continue
            trial.facts = Facts.of(digest, size, spec)
            effects += self._begin(trial, trial.facts, now)
        return effects

    def _begin(self, trial: Trial, facts: Facts, now: Micros) -> list[Effect]:
        """A panel, or the game where two histories stand against each other."""
        if facts.is_interactive or self._outputs(trial, facts) is None:
            return self._rule(trial, None, "not_comparable", now)
        if trial.round == len(SEATS) + 1 and trial.rival != trial.trace and facts.units_of(trial.place[1]):
            if self.referee.is_full:  # Tried again with the specification, for as long as the ledger waits.
                trial.state = Gathering(trial.due, now)
                return []
            game = Game(Digest(trial.trace), Digest(trial.rival), facts.units + 2)
            trial.state = Playing(trial.seed)
            return self.referee.begin(game, trial.seed, ((trial.provider,), (trial.speaker,)), now)
        if not any(trial.claimed):
            return self._rule(trial, None, "nothing_to_compare", now)
        is_traced = bool(trial.trace and facts.units_of(trial.place[1]))
        if not facts.is_exact and not is_traced:
            return self._rule(trial, None, "not_comparable", now)
        summons = self._summon(trial, facts, trial.seats)
        if summons.seats < VOTES_MIN:
            return self._rule(trial, None, "no_panel", now)
        request = trial.request(facts, self._outputs(trial, facts) or ())
        panel = Panel.of(request, summons, now, _limit(trial, facts, now), trial.due)
        if facts.is_exact:
            trial.state = Sitting(panel, now)
            return [*panel.ask(), Wake(panel.until)]
        rehearing = Rehearing.of(trial.seed, trial.provider, trial.trace, facts, panel, now)
        trial.state = Rehearsing(rehearing, now)
        return [*rehearing.ask(), Wake(rehearing.until)]

    def _summon(self, trial: Trial, facts: Facts, seats: int) -> Summons:
        """Whom this judge asks, in the order that all share, by what it has heard of them."""
        bailiff, sat = self._bailiff, self.docket.sat.get(trial.place, frozenset())
        return summon(
            (peer for peer in trial.order if peer not in sat),
            seats,
            lambda peer: bailiff.fits(facts, trial.provider, peer),
            bailiff.networks,
            trial.barred,
        )

    def _outputs(self, trial: Trial, facts: Facts) -> tuple[Digest, ...] | None:
        job = self._bailiff.ledger().escrows.get(trial.place[0])
        return outputs_read(job, trial.place[1], facts.chunks) if job is not None else None

    # ── panels ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        trial = self.docket.trials.get((message.escrow, message.chunk, message.epoch))
        if trial is not None and isinstance(trial.state, Rehearsing):
            return trial.state.rehearing.committed(sender, message, now)
        if trial is None or not isinstance(trial.state, Sitting):
            return []
        return trial.state.panel.committed(sender, message, now)

    def _revealed(self, sender: PeerId, message: AuditReveal, now: Micros) -> list[Effect]:
        trial = self.docket.trials.get((message.escrow, message.chunk, message.epoch))
        if trial is not None and isinstance(trial.state, Rehearsing):
            game = trial.state.rehearing.game
            return self._rehear(lambda item: item.revealed(sender, message, now), now, game)
        if trial is None or not isinstance(trial.state, Sitting) or not trial.state.panel.revealed(sender, message):
            return []
        return self._vote(trial, trial.state.panel, now)

    def _vote(self, trial: Trial, panel: Panel, now: Micros) -> list[Effect]:
        """All have opened, or had their time."""
        panel.close()
        output = panel.majority()
        if panel.request.result and output is None and panel.is_refused:
            return self._rule(trial, False, "check_failed", now)
        is_finish = panel.request.last is not UNSET
        if is_finish and output is None and panel.is_refused:
            return self._rule(trial, False, "unit_unreplayable", now)
        if is_finish and output is None and panel.is_withheld:
            return self._rule(trial, False, "withheld", now)
        if output is None:
            return self._rule(trial, None, "no_majority", now)
        if is_finish and output == trial.claimed:
            return self._rule(trial, True, "within_tolerance", now)
        if is_finish:
            return self._rule(trial, False, "output_differs", now, output)
        if panel.request.result:  # A member that votes at all votes for the result that it was given.
            return self._rule(trial, True, "check_passed", now, trial.claimed)
        code = "hash_equal" if output == trial.claimed else "hash_differs"
        return self._rule(trial, output == trial.claimed, code, now, output)

    def _rehearing(self, game: bytes) -> Trial | None:
        """The trial whose units are replayed under this name."""
        for trial in self.docket.trials.values():
            if isinstance(trial.state, Rehearsing) and trial.state.rehearing.game == game:
                return trial
        return None

    def _rehear(
        self, step: Callable[[Rehearing], list[Effect]], now: Micros, game: bytes | None = None
    ) -> list[Effect]:
        """Go on with one rehearing, or with all, and rule where the outcome is known."""
        effects: list[Effect] = []
        for trial in list(self.docket.trials.values()):
            if not isinstance(trial.state, Rehearsing) or game not in (None, trial.state.rehearing.game):
                continue
            rehearing = trial.state.rehearing
            effects += step(rehearing)
            if rehearing.outcome is not None:
                is_good, code = rehearing.outcome
                is_finished = not is_good or rehearing.last is None
                effects += self._rule(trial, is_good, code, now) if is_finished else self._finish(trial, rehearing, now)
        return effects

    def _finish(self, trial: Trial, rehearing: Rehearing, now: Micros) -> list[Effect]:
        """The units are right: let the same members make the output of the last state, which no unit shows."""
        sat, facts = rehearing.panel, rehearing.facts
        assert rehearing.last is not None
        request = replace(trial.request(facts, self._outputs(trial, facts) or ()), last=rehearing.last)
        panel = Panel.of(request, Summons(sat.members, (), sat.seats), now, _limit(trial, facts, now), trial.due)
        trial.state = Sitting(panel, now)
        return [*panel.ask(), Wake(panel.until)]

    # ── the game ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _leaf(self, game: Digest, dispute: Dispute, now: Micros) -> list[Effect]:
        """The game has come down to one leaf: D0 and D1 are replayed here, other classes by three machines."""
        trial = self._played(game)
        if trial is None or trial.facts is None:
            return []
        trial.game, trial.unit = game, dispute.index - 1
        me = self._bailiff.identity.peer
        is_own = trial.facts.numeric in ("D0", "D1") and me not in trial.sides
        summons = Summons((me,), (), 1) if is_own else self._summon(trial, trial.facts, SEATS[0])
        seat = trial.seat(trial.facts, self._outputs(trial, trial.facts) or (), summons)
        return self.arbiter.begin(game, dispute, seat, now)

    def _game_over(self, game: Digest, winner: Digest | None, code: str, now: Micros) -> list[Effect]:
        """Both wrong: the claim is refuted all the same, and whoever did it right may still say so."""
        trial = self._played(game)
        if trial is None:
            return []
        return self._rule(trial, winner == trial.trace, code, now, Digest(winner or bytes(32)))

    def _played(self, game: Digest) -> Trial | None:
        """The trial that a game belongs to."""
        for trial in self.docket.trials.values():
            if isinstance(trial.state, Playing) and game == trial.game_id:
                return trial
        return None

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _rule(
        self,
        trial: Trial,
        is_good: bool | None,
        code: str,
        now: Micros,
        evidence: Digest | None = None,
    ) -> list[Effect]:
        """Sign what was found. `is_good`: whether the claim holds; None: nothing was found, and the finding stands."""
        panel = trial.panel
        noted = self.docket.note(trial.place, panel.seals) if panel is not None else []
        seats = 0 if panel is None else trial.seats
        signed = trial.ruling(self._bailiff.identity, self._bailiff.chain, is_good, code, evidence, seats)
        trial.state = Ruled(signed, now)
        sent = [Send(peer, Submit((signed,))) for peer in self._bailiff.validators()]
        return [*noted, *sent, trial.said(code, is_good)]

    def _late(self, trial: Trial, now: Micros) -> list[Effect]:
        match trial.state:
            case Gathering(until=until) if now >= until:
                return self._rule(trial, None, "inputs_missing", now)
            case Gathering(until=until, asked=asked) if now >= asked + ASK_AGAIN:
                trial.state = Gathering(until, now)
                return [_spec_of(trial)]
            case Sitting(panel=panel) if now >= panel.until:
                following = panel.late(now)
                return self._vote(trial, panel, now) if following is None else following
            case Sitting(panel=panel, asked=asked) if now >= asked + ASK_AGAIN:
                trial.state = Sitting(panel, now)
                return panel.ask()
            case Rehearsing(rehearing=rehearing) if now >= rehearing.until:
                return self._rehear(lambda item: item.late(now), now, rehearing.game)
            case Rehearsing(rehearing=rehearing, asked=asked) if now >= asked + ASK_AGAIN:
                trial.state = Rehearsing(rehearing, now)
                return rehearing.ask()
            case Ruled(signed=signed, sent=sent) if now >= sent + ASK_AGAIN:
                trial.state = Ruled(signed, now)
                return [Send(peer, Submit((signed,))) for peer in self._bailiff.validators()]
            case _:
                return []


def _spec_of(trial: Trial) -> Effect:
    """Get the specification from whoever has it."""
    return Compute(Fetch(trial.spec, SPEC_BYTES_MAX, (trial.steward, trial.provider, trial.appellant)))


def _limit(trial: Trial, facts: Facts, now: Micros) -> Micros:
    """Microseconds that a panel gets: there is time for others after it."""
    return Micros(min(max(0, trial.due - now) // 2, 2 * facts.timeout + AUDIT_MARGIN))


def _due(end: Micros, now: Micros) -> Micros:
    """When a court stops waiting for an appeal that the ledger decides by itself at `end`."""
    return Micros(end - min(RULE_MARGIN, max(0, end - now) // RULE_SHARE))
