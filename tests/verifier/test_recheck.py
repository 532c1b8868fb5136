"""What a judge kept of a claim, checked by somebody who was not there: true ones hold, and every change shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from protocol import dossier as dossier_codec
from protocol import operations, wire
from protocol.completions import Fetched
from protocol.dossier import Dossier
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import JobSpec
from protocol.messages import Reveal, UnitsOpened
from protocol.operations import Claim, Verdict
from protocol.proof import Results
from protocol.trace import TraceTree, decode_trace
from protocol.units import Digest, PeerId
from simulations.units import EXACT
from tests.verifier.court import ESCROW, GOOD, ME, ODD, PROVIDER, SALT, STRANGER, Court, in_audit, to_open
from tests.verifier.test_unit_course import Plan, plans, played
from tests.verifier.unit_court import AUDITORS, NOISE, UNITS, UnitCourt, noisy, skipping, unit_job
from verifier.recheck import Ordered, Shown, check
from verifier.views import Facts


def ordered_by(court: Court, verdict: Verdict) -> Ordered:
    """What a receipt would say of the court's only claim."""
    case = court.case
    claim = Claim(ESCROW, 0, 1, case.sealed, trace=case.trace or UNSET, units=case.units or UNSET)
    facts = case.facts
    assert facts is not None
    return Ordered(claim, verdict, PROVIDER.peer, facts, case.beacon)


def kept(court: Court) -> Dossier:
    """What the judge writes down."""
    return court.judge.dossiers.dossier_of(court.case)


def recheck(court: Court) -> Shown:
    return check(kept(court), ordered_by(court, court.verdict()))


@given(plan=plans)
@settings(deadline=None, max_examples=100)
def test_whatever_a_judge_decides_can_be_checked_later(plan: Plan) -> None:
    court, _ = played(plan)
    verdict, shown = court.verdict(), recheck(court)
    if verdict.is_audited:
        assert shown.executions >= (1 if verdict.outcome == "accept" else 2)
        assert shown.units
        assert (shown.scored > 0) == (verdict.code in ("within_tolerance", "out_of_tolerance"))


def test_units_that_stand() -> None:
    court = UnitCourt()
    assert court.judged(EXACT) == ("accept", "units_equal", True)
    assert recheck(court) == Shown(court.case.unfolded.indices, 1, 0)  # type: ignore[union-attr]


def test_a_cheat_and_one_who_covered_for_it() -> None:
    """Two agree against the claim; the friend of the provider is named, and its word contradicts nobody's seal."""
    court = UnitCourt(unit_job(count=4, samples=4), skipping(*range(4)), (*AUDITORS, STRANGER))
    assert court.judged(EXACT, skipping(*range(4)), EXACT) == ("fraud", "unit_differs", True)
    assert court.verdict().faulted is not UNSET
    assert recheck(court).executions == 2


def test_one_execution_that_stands_there_twice_is_one() -> None:
    court = UnitCourt(unit_job(count=4, samples=4), skipping(*range(4)), (*AUDITORS, STRANGER))
    assert court.judged(EXACT, skipping(*range(4)), EXACT) == ("fraud", "unit_differs", True)
    verdict, whole = replace(court.verdict(), agreed=UNSET), kept(court)
    assert check(whole, ordered_by(court, verdict)).executions >= 1
    (named,) = (one for one in whole.heard if (one.auditor, one.output) == (verdict.auditor, verdict.evidence))
    with pytest.raises(Refused, match="one execution alone refutes the claim"):
        check(replace(whole, heard=(named, named)), ordered_by(court, verdict))


def test_a_score_is_the_judges_word() -> None:
    court = UnitCourt(unit_job("D3"), noisy(NOISE))
    assert court.judged(noisy(NOISE)) == ("accept", "within_tolerance", True)
    shown = recheck(court)
    assert shown.scored == 1 <= shown.executions


def test_a_whole_chunk_and_its_seals() -> None:
    court = in_audit()
    to_open(court, GOOD)
    court.open(GOOD)
    assert court.found() == ("accept", "hash_equal", True)
    assert recheck(court) == Shown((), 1, 0)


def test_a_result_that_was_not_drawn_still_opens_the_claims_seal() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    assert court.found() == ("accept", "not_sampled", False)
    assert recheck(court) == Shown()
    with pytest.raises(Refused, match="the opening gives seal") as caught:
        reveal = opening(kept(court))
        check(replace(kept(court), reveal=replace(reveal, salt=bytes(32))), ordered_by(court, court.verdict()))
    assert caught.value.code == "units_false" and caught.value.fix


def test_what_was_sealed_otherwise_is_seen_to_be_so() -> None:
    court = Court(valid=10**9)
    court.claim()
    court.know_spec()
    court.reveal(ODD)
    assert court.found() == ("wrong", "seal_mismatch", False)
    assert recheck(court) == Shown()
    with pytest.raises(Refused, match="the opening gives seal"):
        check(kept(court), ordered_by(court, replace(court.verdict(), code="not_sampled", evidence=ODD)))


def opening(dossier: Dossier) -> Reveal:
    assert isinstance(dossier.reveal, Reveal)
    return dossier.reveal


def shown(dossier: Dossier) -> UnitsOpened:
    assert isinstance(dossier.units, UnitsOpened)
    return dossier.units


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def leaf_byte(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    first, *rest = units.openings
    state = bytes([first.leaf.state[0] ^ 1]) + first.leaf.state[1:]
    changed = replace(first, leaf=replace(first.leaf, state=state))
    return replace(dossier, units=replace(units, openings=(changed, *rest)))


def other_index(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    first, *rest = units.openings
    changed = replace(first, leaf=replace(first.leaf, index=first.leaf.index + 1))
    return replace(dossier, units=replace(units, openings=(changed, *rest)))


def other_unit(dossier: Dossier) -> Dossier:
    """A true leaf of the same trace that the beacon did not draw, in the place of one that it did."""
    units = shown(dossier)
    drawn = {one.leaf.index for one in units.openings}
    other = next(one for index, one in enumerate(ALL_LEAVES) if index not in drawn)
    return replace(dossier, units=replace(units, openings=(*units.openings[1:], other)))


def longer_path(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    first, *rest = units.openings
    changed = replace(first, path=(*first.path, first.path[0]))
    return replace(dossier, units=replace(units, openings=(changed, *rest)))


def twice(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    return replace(dossier, units=replace(units, openings=(*units.openings, units.openings[0])))


def fewer(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    return replace(dossier, units=replace(units, openings=units.openings[1:]))


def effects(dossier: Dossier) -> Dossier:
    units = shown(dossier)
    return replace(dossier, units=replace(units, effects=bytes([units.effects[0] ^ 1]) + units.effects[1:]))


def behind(dossier: Dossier) -> Dossier:
    reveal = opening(dossier)
    first, *rest = reveal.openings
    changed = replace(first, leaf=replace(first.leaf, state=bytes(32)))
    return replace(dossier, reveal=replace(reveal, openings=(changed, *rest)))


def nothing_behind(dossier: Dossier) -> Dossier:
    return replace(dossier, reveal=replace(opening(dossier), openings=opening(dossier).openings[1:]))


def other_words(dossier: Dossier) -> Dossier:
    """Results that say something else, under the same seal."""
    first, *rest = dossier.heard
    results = wire.decode(first.results, wire.decoder(Results), PROVIDER.peer)
    told = wire.encode(replace(results, output=GOOD))
    return replace(dossier, heard=(replace(first, results=told), *rest))


def other_seal(dossier: Dossier) -> Dossier:
    first, *rest = dossier.heard
    return replace(dossier, heard=(replace(first, sealed=bytes(32)), *rest))


def other_auditor(dossier: Dossier) -> Dossier:
    """The same words in another's name, sealed anew: whom the verdict names has said nothing then."""
    first, *rest = dossier.heard
    name = next(peer.peer for peer in AUDITORS if peer.peer != first.auditor)
    sealed = operations.seal(name, SALT, Digest(first.output))
    return replace(dossier, heard=(replace(first, auditor=name, salt=SALT, sealed=sealed), *rest))


def own_words(dossier: Dossier) -> Dossier:
    """Another result, sealed as it should be: the verdict's evidence is another."""
    first, *rest = dossier.heard
    results = wire.decode(first.results, wire.decoder(Results), PROVIDER.peer)
    told = wire.encode(replace(results, output=GOOD))
    sealed = operations.seal(PeerId(first.auditor), SALT, wire.digest(told))
    changed = replace(first, results=told, output=wire.digest(told), salt=SALT, sealed=sealed)
    return replace(dossier, heard=(changed, *rest))


def the_provider_itself(dossier: Dossier) -> Dossier:
    first, *rest = dossier.heard
    return replace(dossier, heard=(replace(first, auditor=PROVIDER.peer), *rest))


def a_failure_that_counts(dossier: Dossier) -> Dossier:
    first, *rest = dossier.heard
    return replace(dossier, heard=(replace(first, reason="sandbox: it did not start"), *rest))


CHANGES: Final[dict[str, tuple[Callable[[Dossier], Dossier], str, str]]] = {
    "a byte of a leaf": (leaf_byte, "units_false", "not under the claim's root"),
    "another index": (other_index, "units_false", "not under the claim's root"),
    "another unit": (other_unit, "units_false", "the beacon drew"),
    "a longer path": (longer_path, "units_false", "not under the claim's root"),
    "a leaf twice": (twice, "units_false", "were opened where"),
    "a unit less": (fewer, "units_false", "the beacon drew"),
    "the claimed effects": (effects, "units_false", "effects are not under"),
    "a leaf behind a unit": (behind, "units_false", "not under the claim's root"),
    "no leaf behind a unit": (nothing_behind, "units_false", "are not opened"),
    "no units at all": (lambda one: replace(one, units=UNSET), "units_false", "results of units"),
    "no opening": (lambda one: replace(one, reveal=UNSET), "units_gap", "opening is missing"),
    "another result": (lambda one: replace(one, reveal=replace(opening(one), output=ODD)), "units_false", "was judged"),
    "an auditor's results": (other_words, "units_false", "results of auditor"),
    "no results": (lambda one: replace(one, heard=(replace(one.heard[0], results=b""),)), "units_false", "are missing"),
    "an auditor's seal": (other_seal, "units_false", "it sealed 0000000000000000"),
    "an auditor's name": (other_auditor, "units_gap", "on which the verdict rests"),
    "an auditor's words": (own_words, "units_gap", "on which the verdict rests"),
    "nobody heard": (lambda one: replace(one, heard=()), "units_gap", "nobody of 0 auditors"),
    "its own auditor": (the_provider_itself, "units_false", "its own auditors"),
    "a failed execution": (a_failure_that_counts, "units_false", "counts for nothing"),
    "another claim": (lambda one: replace(one, chunk=1), "units_false", "another claim"),
}

COURT: Final = UnitCourt()
VERDICT: Final = (COURT.judged(EXACT), COURT.verdict())[1]
WHOLE: Final = wire.encode(COURT.judge.dossiers.dossier_of(COURT.case))
TREE: Final = TraceTree(decode_trace(COURT.provided.read(COURT.made.trace), PROVIDER.peer))
ALL_LEAVES: Final = [TREE.open(at) for at in range(UNITS)]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(change: str) -> None:
    """And the message says what disagrees."""
    alter, code, words = CHANGES[change]
    with pytest.raises(Refused, match=words) as caught:
        check(alter(kept(COURT)), ordered_by(COURT, VERDICT))
    assert caught.value.code == code and caught.value.fix
    assert caught.value.detail.startswith("chunk 0 epoch 1: ")


def told(dossier: Dossier) -> Dossier:
    """Without what nothing binds: the size that the provider says its output has."""
    return replace(dossier, reveal=replace(opening(dossier), output_bytes=0))


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    """Every byte is bound by the claim, the verdict or another byte; but for the size of the output, which is told."""
    body = bytearray(WHOLE)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = dossier_codec.decode(bytes(body), PROVIDER.peer)
        check(changed, ordered_by(COURT, VERDICT))
    except (Refused, RemoteViolation):
        return
    assert told(changed) == told(kept(COURT))


VERDICTS: Final[dict[str, tuple[Verdict, str]]] = {
    "another finding": (replace(VERDICT, outcome="fraud"), "no execution can find 'fraud'"),
    "another code": (replace(VERDICT, outcome="fraud", code="unit_differs"), "found the claim, the verdict says"),
    "an unknown code": (replace(VERDICT, code="moon_phase"), "no execution can find"),
    "another evidence": (replace(VERDICT, evidence=ODD), "on which the verdict rests"),
    "another auditor": (replace(VERDICT, auditor=STRANGER.peer), "on which the verdict rests"),
    "one more who agreed": (replace(VERDICT, agreed=(STRANGER.peer,)), "shares in the finding and is not among"),
    "another output": (replace(VERDICT, output=GOOD), "was judged"),
    "nobody executed it": (replace(VERDICT, is_audited=False, code="not_sampled"), "is its evidence"),
}


@pytest.mark.parametrize("change", VERDICTS)
def test_a_verdict_that_says_something_else_shows(change: str) -> None:
    verdict, words = VERDICTS[change]
    with pytest.raises(Refused, match=words):
        check(kept(COURT), ordered_by(COURT, verdict))


def test_another_root_another_beacon_or_another_job_shows() -> None:
    true = ordered_by(COURT, VERDICT)
    job: JobSpec = unit_job(samples=5)
    facts = Facts.of(COURT.spec, len(COURT.blob), job)
    cases = {
        "not under the claim's root": Ordered(replace(true.claim, trace=ODD), VERDICT, true.provider, true.facts, b""),
        "the beacon drew": Ordered(true.claim, VERDICT, true.provider, true.facts, b"another"),
        "the job": Ordered(replace(true.claim, units=3), VERDICT, true.provider, true.facts, true.beacon),
        "were opened, the beacon drew": Ordered(true.claim, VERDICT, true.provider, facts, true.beacon),
        "gives seal": Ordered(true.claim, VERDICT, STRANGER.peer, true.facts, true.beacon),
    }
    for words, other in cases.items():
        with pytest.raises(Refused, match=words):
            check(kept(COURT), other)


def test_a_claim_without_a_trace_has_no_leaves() -> None:
    court = in_audit()
    to_open(court, GOOD)
    court.open(GOOD)
    dossier = kept(court)
    assert isinstance(dossier.units, UnsetType)
    with pytest.raises(Refused, match="leaves of a claim without a trace"):
        check(replace(dossier, units=shown(kept(COURT))), ordered_by(court, court.verdict()))
