"""The course of one case, from the draw to the verdict; the executions by others are `verifier.audits`.

Claim → beacon → (trace opened, audited blind) → the provider opens → output fetched → auditors open → verdict. Every
wait has a deadline and a way on. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from typing import Final

from protocol import operations, wire
from protocol.effects import Compute, Effect, Emit, Fetch, Send, Wake
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import FILES_MAX, PATH_CHARS_MAX, Manifest
from protocol.messages import Reveal, RevealRequest, Submit
from protocol.units import PPM, Digest, Micros, PeerId
from verifier import challenge, openings, sampling
from verifier.audits import Audits
from verifier.bench import Bench
from verifier.case import (
    Auditing,
    Case,
    Checking,
    Decided,
    Fetching,
    Gathering,
    Opening,
    Quoting,
    Revealing,
    Scoring,
    Tracing,
    Unfolding,
)
from verifier.comparisons import Comparisons
from verifier.deadlines import (
    FETCH_AGAIN,
    FETCH_TRIES,
    INPUTS_TIMEOUT,
    OUTPUT_MARGIN,
    SPEC_BYTES_MAX,
    last_look,
    next_look,
)
from verifier.inference import are_delivered
from verifier.quoting import Quotes
from verifier.settling import Finding, Settlement
from verifier.unfolding import Traces

LAST_STATE: Final = "state.shoal"
"""The file of an output that is the last state of its trace (node/guest/work/runner.py)."""

MANIFEST_BYTES_MAX: Final = FILES_MAX * (4 * PATH_CHARS_MAX + 128)
"""Bytes of an encoded output manifest."""

_manifest_decoder: Final = wire.decoder(Manifest)


class Course:
    """Moves a case from one state to the next; every method returns what is to happen."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.audits = Audits(bench)
        self.comparisons = Comparisons(bench, self.audits)
        self.traces = Traces(bench, self.audits)
        self.quotes = Quotes(bench, self._audit)

    # ── the draw ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, case: Case, now: Micros) -> list[Effect]:
        """The specification is known: let the beacon decide, as soon as there is one."""
        case.facts = facts = self._bench.facts[case.spec]
        escrow, chunk, _ = case.place
        if chunk >= facts.steps or self._bench.outputs(escrow, chunk, facts) is None:
            return self._bench.decide(case, "missing", "inputs_missing", now)
        if case.is_traced and (not case.trace or case.units != facts.units_of(chunk)):
            return self._bench.decide(case, "missing", "no_trace", now)
        if not case.beacon:
            case.state = Gathering(case.due, now)
            return [Wake(next_look(case))]
        case.seed = challenge.seed(case.place, case.sealed, case.trace, case.beacon)
        told = self._told_of_speed(case)
        rate = self._rate(case)
        is_watched = rate > 0 and self._is_watched(case)
        if not sampling.is_drawn(case.beacon, *case.place, rate):
            if not is_watched:
                return [*told, *self._bench.ask_reveal(case, now)]
            case.is_extra = len(self._bench.validators()) > 1
        elif self.quotes.may_spare(case, rate):
            return [*told, *self.quotes.begin(case, now)]
        return [*told, *self._audit(case, now)]

    def _is_watched(self, case: Case) -> bool:
        """Whether this judge has reasons of its own to look at all that this provider hands in: its errors have had a
        direction lately, or a claim of its offer was shown to be false. The former is counted down."""
        assert case.facts is not None
        is_drifting = self._bench.drifts.take(case.provider, case.facts.tolerance.profile)
        return is_drifting or self._bench.caution.is_doubted(case.provider)

    def _audit(self, case: Case, now: Micros) -> list[Effect]:
        """Have it executed again."""
        return self.traces.begin(case, now) if case.is_traced else self.audits.begin(case, "work", now)

    def _told_of_speed(self, case: Case) -> list[Effect]:
        """Said where the claim came faster than any machine computes; that alone never costs anybody anything."""
        if not case.is_too_fast:
            return []
        assert case.facts is not None
        numbers: dict[str, str | int] = {
            "took_us": int(case.took),
            "least_us": int(case.facts.least(case.place[1], case.done_ppm)),
        }
        return [Emit("impossible_speed", self._bench.named(case) | numbers)]

    def _rate(self, case: Case) -> int:
        """Share of such claims whose work is executed again, ppm."""
        facts, chunk = case.facts, case.place[1]
        assert facts is not None
        is_out_of_reach = facts.is_interactive or not (facts.is_exact or case.is_traced)
        if is_out_of_reach or (facts.kind == "certificate" and facts.is_checked(chunk)):
            return 0  # Nobody can do it again, or nobody needs to: its check says it all.
        floor = min(PPM, case.floor(facts.floor_ppm))
        is_suspect = case.on_probation or case.is_too_fast
        return PPM if is_suspect else sampling.audit_ppm(floor, case.consecutive_valid)

    # ── the provider's opening ───────────────────────────────────────────────────────────────────────────────────────
    def revealed(self, sender: PeerId, message: Reveal, now: Micros) -> list[Effect]:
        """The provider opens its claim."""
        case = self._bench.cases.get((message.escrow, message.chunk, message.epoch))
        if case is None:
            return []
        if sender != case.provider:
            raise RemoteViolation(sender, "an opening from a peer that did not claim", code="not_the_provider")
        if case.reveal is not None:
            if message != case.reveal:
                raise RemoteViolation(sender, "the claim was opened another way before", code="equivocation")
            return []
        if not isinstance(case.state, Revealing):
            raise Refused(
                "the claim is to be opened only when asked for", code="too_early", fix="Wait for the request."
            )
        case.reveal = message
        if operations.seal(case.provider, message.salt, Digest(message.output)) != case.sealed:
            return self._bench.decide(case, "wrong", "seal_mismatch", now)
        if (proof := self._bench.caution.canary(case.place, case.provider, Digest(message.output))) is not None:
            by = Finding(self._bench.identity.peer, proof, "other", code="wrong_canary")
            return self._bench.decide(case, "fraud", by.code, now, Settlement("refuted", by))
        if case.facts is None or message.output_bytes > case.facts.disk_bytes:
            return self._bench.decide(case, "missing", "output_too_large", now)
        if case.is_traced and (refused := self._uncover(case, message, now)):
            return refused
        case.state = Fetching(1, None)
        return [*self._fetch_output(case), Wake(next_look(case))]

    def _uncover(self, case: Case, message: Reveal, now: Micros) -> list[Effect]:
        """Take the leaves behind the audited units; a verdict where they are not the claim's."""
        known = case.unfolded
        try:
            leaves = openings.uncover(case.trace, case.units, message, known.indices if known is not None else ())
        except Refused as error:
            return self._bench.decide(case, "withheld" if error.code == "withheld" else "severe", error.code, now)
        case.last = leaves[case.units]
        if known is not None:
            known.leaves.update(leaves)
        return []

    def _fetch_output(self, case: Case) -> list[Effect]:
        """From everybody who may have it: equal outputs of several claims are one blob."""
        assert case.reveal is not None
        digest = case.reveal.output
        same = [other for other in self._bench.cases.values() if other.reveal and other.reveal.output == digest]
        holders = [
            peer for other in same if isinstance(other.state, Fetching) for peer in (other.provider, other.steward)
        ]
        sources = tuple(dict.fromkeys((case.provider, *holders)))
        return [Compute(Fetch(Digest(digest), case.reveal.output_bytes + OUTPUT_MARGIN, sources, is_output=True))]

    def fetch_spec(self, case: Case) -> Effect:
        """Its specification, from who holds it."""
        return Compute(Fetch(case.spec, SPEC_BYTES_MAX, (case.steward, case.provider)))

    def delivered(self, case: Case, now: Micros) -> list[Effect]:
        """The output is here and anybody can have it from us."""
        if case.is_traced and not self._ends_in_trace(case):
            return self._bench.decide(case, "severe", "output_not_last_state", now)
        if case.hearing is not None:
            return self.audits.open(case, now)
        return self.audits.unheard(case, now)

    def _ends_in_trace(self, case: Case) -> bool:
        """Whether the output holds the last state of the trace; where units share nothing, every audited one too."""
        assert case.reveal is not None
        body = self._bench.read_blob(Digest(case.reveal.output))
        try:
            manifest = wire.decode(body, _manifest_decoder, case.provider, MANIFEST_BYTES_MAX)
        except RemoteViolation:
            return False
        found = [file.digest for file in manifest.files if file.path == LAST_STATE]
        if case.last is None or found != [case.last.state]:
            return False
        if case.unfolded is None or case.facts is None or case.facts.kind not in challenge.INDEPENDENT:
            return True
        answers = [case.unfolded.leaves[index] for index in case.unfolded.indices]
        return are_delivered({file.digest for file in manifest.files}, answers)

    def fetch_failed(self, digest: Digest, now: Micros) -> list[Effect]:
        """An output, or an auditor's results, did not come."""
        effects: list[Effect] = []
        for case in list(self._bench.cases.values()):
            state = case.state
            if isinstance(state, Scoring) and state.results is None and state.output == digest:
                effects += self.audits.failed(case, (state.auditor,), "results_unavailable", now)
            elif not isinstance(state, Fetching) or state.again is not None or case.reveal is None:
                continue
            elif case.reveal.output == digest and state.tries >= FETCH_TRIES:
                effects += self._bench.decide(case, "missing", "output_unavailable", now)
            elif case.reveal.output == digest:
                case.state = Fetching(state.tries, Micros(now + FETCH_AGAIN))
                effects.append(Wake(next_look(case)))
        return effects

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────
    def late(self, case: Case, now: Micros) -> list[Effect]:
        """A deadline has passed, or it is time to ask again."""
        if next_look(case) > now:
            return []
        match case.state:
            case Gathering():
                return self._gather(case, case.state, now)
            case Quoting():
                return self.quotes.late(case, case.state, now)
            case Unfolding():
                return self.traces.late(case, now)
            case Auditing() | Checking() | Opening() | Scoring():
                return self._overdue(case, now)
            case Tracing():
                return self.audits.prefixes.late(case, now)
            case Revealing(until=until):
                if now >= until:
                    return self._bench.decide(case, "missing", "not_revealed", now)
                case.state = Revealing(until, now)
                return [Send(case.provider, RevealRequest(*case.place))]
            case Fetching(tries=tries, again=again):
                if again is None or now < again:
                    return self._bench.decide(case, "missing", "output_unavailable", now)
                case.state = Fetching(tries + 1, None)
                return self._fetch_output(case)
            case Decided() if self.quotes.is_alone(case, now):
                return self.quotes.audit_after_all(case, now)
            case Decided(verdict=verdict):
                case.state = Decided(verdict, now)
                said = Submit((verdict, *case.joined.values()))
                return [Send(peer, said) for peer in self._bench.validators()]

    def _gather(self, case: Case, state: Gathering, now: Micros) -> list[Effect]:
        """Without a specification there is nothing to pay for; without a beacon there is no verdict at all."""
        if case.facts is not None:
            case.state = Gathering(Micros(now + INPUTS_TIMEOUT), now)
            return []
        if now >= state.until:
            return self._bench.decide(case, "missing", "inputs_missing", now)
        case.state = Gathering(state.until, now)
        return [self.fetch_spec(case)]

    def _overdue(self, case: Case, now: Micros) -> list[Effect]:
        """An auditor is late, or the ledger's deadline is near."""
        if now >= last_look(case):
            return self.audits.give_up(case, "audit_late", now)
        match case.state:
            case Auditing(auditors=auditors) | Checking(auditors=auditors):
                return self.audits.failed(case, auditors, "late", now)
            case Opening(auditor=auditor) | Scoring(auditor=auditor):
                return self.audits.failed(case, (auditor,), "late", now)
        return []
