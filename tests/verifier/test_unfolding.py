"""What a provider must open of its trace, when, and what becomes of it when it does not, or opens something else."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from protocol import operations, wire
from protocol.errors import Refused, RemoteViolation
from protocol.jobspec import Manifest, OutputFile
from protocol.messages import AuditRequest, Reveal, RevealRequest, UnitsOpened, UnitsRequest
from protocol.operations import Claim
from protocol.proof import Opening
from protocol.units import PPM, SECOND, Digest
from tests.verifier.court import CHAIN, ESCROW, GOOD, ME, PROVIDER, SALT, STRANGER
from tests.verifier.unit_court import UNITS, UnitCourt, unit_job
from verifier.course import LAST_STATE
from verifier.deadlines import ASK_AGAIN, BEACON_LOOK, UNITS_TIMEOUT

Forge = Callable[[UnitsOpened], UnitsOpened]


def reveal(court: UnitCourt, openings: tuple[Opening, ...]) -> None:
    court.hear(PROVIDER, Reveal(ESCROW, 0, 1, court.made.output, court.made.size, SALT, openings))


def openings(court: UnitCourt) -> tuple[Opening, ...]:
    return court.provided.trace.behind(ME.peer, court.provided.read)


@pytest.mark.parametrize("rounds", [0, 1])
def test_who_does_not_open_is_asked_again_and_withholds(rounds: int) -> None:
    court = UnitCourt().begin()
    for _ in range(rounds):
        court.hear(PROVIDER, court.answer())
    court.wait(ASK_AGAIN)
    assert court.sent(UnitsRequest)
    court.wait(UNITS_TIMEOUT - ASK_AGAIN)
    assert court.found() == ("withheld", "withheld", False)
    assert court.verdict().evidence == court.provided.trace.root


def _other_effects(opened: UnitsOpened) -> UnitsOpened:
    return msgspec.structs.replace(opened, effects=b"\xff\xff" + opened.effects[2:])


def _fewer_effects(opened: UnitsOpened) -> UnitsOpened:
    return msgspec.structs.replace(opened, effects=opened.effects[2:])


def _other_state(opened: UnitsOpened) -> UnitsOpened:
    first, *rest = opened.openings
    bent = Opening(msgspec.structs.replace(first.leaf, state=GOOD), first.path)
    return msgspec.structs.replace(opened, openings=(bent, *rest))


def _at_another_index(opened: UnitsOpened) -> UnitsOpened:
    first, second, *rest = opened.openings
    moved = Opening(msgspec.structs.replace(second.leaf, index=first.leaf.index), first.path)
    return msgspec.structs.replace(opened, openings=(moved, second, *rest))


def _one_less(opened: UnitsOpened) -> UnitsOpened:
    return msgspec.structs.replace(opened, openings=opened.openings[1:])


def _twice(opened: UnitsOpened) -> UnitsOpened:
    return msgspec.structs.replace(opened, openings=(opened.openings[0], *opened.openings[:-1]))


@pytest.mark.parametrize(
    ("rounds", "forge"),
    [(0, _other_effects), (0, _fewer_effects), (1, _other_effects), (1, _other_state), (1, _at_another_index),
     (1, _one_less), (1, _twice)],
)  # fmt: skip
def test_what_is_not_under_the_claims_root_is_a_severe_fault(rounds: int, forge: Forge) -> None:
    court = UnitCourt().begin()
    for _ in range(rounds):
        court.hear(PROVIDER, court.answer())
    court.hear(PROVIDER, forge(court.answer()))
    assert court.found() == ("severe", "bad_path", False)
    assert court.verdict().evidence == court.provided.trace.root


def test_echoes_are_harmless_and_another_story_is_equivocation() -> None:
    court = UnitCourt().begin()
    first = court.answer()
    court.hear(PROVIDER, first)
    second = court.answer()
    assert court.hear(PROVIDER, first) == [], "an echo of the first round"
    court.hear(PROVIDER, second)
    assert court.hear(PROVIDER, second) == court.hear(PROVIDER, first) == []
    with pytest.raises(RemoteViolation) as caught:
        court.hear(PROVIDER, _other_effects(second))
    assert caught.value.code == "equivocation"
    with pytest.raises(RemoteViolation) as caught:
        court.hear(PROVIDER, _other_state(second))
    assert caught.value.code == "equivocation"
    with pytest.raises(RemoteViolation) as caught:
        court.hear(STRANGER, second)
    assert caught.value.code == "not_the_provider"


def test_leaves_that_nobody_asked_for_are_too_early() -> None:
    court = UnitCourt(unit_job(audit_ppm=0), valid=10**9).begin()
    unasked = court.provided.trace.answer(ME.peer, UnitsRequest(ESCROW, 0, 1, ()), court.provided.read)
    with pytest.raises(Refused) as caught:
        court.hear(PROVIDER, unasked)
    assert caught.value.code == "too_early"
    other = UnitsOpened(ESCROW, 1, 1, (), b"", ())
    assert court.hear(PROVIDER, other) == []


def test_a_claim_that_is_not_drawn_still_ends_in_its_trace() -> None:
    court = UnitCourt(unit_job(audit_ppm=0), valid=10**9).begin()
    court.show()
    assert court.found() == ("accept", "not_sampled", False)


@pytest.mark.parametrize("is_drawn", [True, False])
def test_an_output_without_the_last_state_is_a_severe_fault(is_drawn: bool) -> None:
    court = UnitCourt(unit_job(audit_ppm=PPM if is_drawn else 0), valid=0 if is_drawn else 10**9)
    other = wire.encode(Manifest((OutputFile(LAST_STATE, GOOD, 5),)))
    court.made.output = wire.digest(other)
    court.made.blobs[court.made.output] = other
    court.begin()
    if is_drawn:
        court.unfold().replay()
    court.show()
    assert court.found() == ("severe", "output_not_last_state", False)


def test_an_output_that_is_no_manifest_does_not_end_in_the_trace() -> None:
    court = UnitCourt(unit_job(audit_ppm=0), valid=10**9)
    court.made.output = wire.digest(b"\xc1")
    court.made.blobs[court.made.output] = b"\xc1"
    court.begin().show()
    assert court.found() == ("severe", "output_not_last_state", False)


def test_the_leaves_behind_the_units_must_be_opened_with_the_claim() -> None:
    for forged, found in (("none", "withheld"), ("bent", "bad_path")):
        court = UnitCourt().begin().unfold()
        court.replay()
        whole = openings(court)
        bent = tuple(Opening(msgspec.structs.replace(item.leaf, aux=GOOD), item.path) for item in whole)
        reveal(court, () if forged == "none" else bent)
        assert court.found()[:2] == (("withheld" if found == "withheld" else "severe"), found)


def test_a_claim_without_the_trace_of_all_units_is_missing() -> None:
    for units, trace in ((0, b""), (UNITS - 1, GOOD)):
        court = UnitCourt()
        court.claim(output=court.made.output, trace=trace, units=units)
        court.know_spec()
        assert court.found() == ("missing", "no_trace", False)


def test_the_draw_waits_for_the_beacon_and_nothing_is_accepted_without() -> None:
    court = UnitCourt()
    court.claim(output=court.made.output, trace=court.provided.trace.root, units=UNITS)
    lease = court.escrow.chunks[0]
    beacon, lease.beacon = lease.beacon, b""
    court.judge.cases.clear()
    court.effects = court.judge.resume(court.now)
    court.know_spec()
    assert court.waits_for == "Gathering"
    for _ in range(5):
        court.wait(BEACON_LOOK)
        assert court.waits_for == "Gathering" and not court.sent(UnitsRequest)
    lease.beacon = beacon
    court.wait(BEACON_LOOK)
    assert court.waits_for == "Unfolding" and court.asked().indices == ()
    court.unfold()
    assert court.sent(AuditRequest)


def test_a_beacon_that_never_comes_stalls() -> None:
    court = UnitCourt()
    court.claim(output=court.made.output, trace=court.provided.trace.root, units=UNITS)
    court.escrow.chunks[0].beacon = b""
    court.judge.cases.clear()
    court.judge.resume(court.now)
    court.know_spec()
    for _ in range(40):
        court.wait(60 * SECOND)
    assert court.waits_for == "Gathering"


def test_two_claims_for_one_lease_are_fraud_whatever_the_ledger_did_with_the_second() -> None:
    court = UnitCourt().begin().unfold()
    for bent, found in ((None, False), (b"x" * 32, True)):
        sealed = court.case.sealed if bent is None else bent
        again = Claim(ESCROW, 0, 1, sealed, trace=court.case.trace, units=UNITS)
        signed = operations.signed_op(CHAIN, again, PROVIDER)
        court.hear(ME, court.receipts(signed, "refused"))
        if found:
            assert court.found() == ("fraud", "equivocation", False)
            assert court.verdict().evidence == signed.op_id
        else:
            assert court.effects == []


def test_a_second_claim_that_its_provider_did_not_sign_frames_nobody() -> None:
    court = UnitCourt().begin().unfold()
    other = Claim(ESCROW, 0, 1, b"x" * 32)
    court.hear(ME, court.receipts(operations.signed_op(CHAIN, other, STRANGER), "refused"))
    assert court.effects == []
    forged = operations.signed_op(CHAIN, other, STRANGER)
    named = operations.SignedOp(forged.body, (operations.Signature(PROVIDER.peer, forged.signatures[0].signature),))
    court.hear(ME, court.receipts(named, "refused"))
    assert court.effects == []


def test_answers_of_an_earlier_lease_are_replays() -> None:
    court = UnitCourt().begin()
    court.judge.cases[ESCROW, 0, 2] = court.judge.cases.pop((ESCROW, 0, 1))
    court.escrow.chunks[0].epoch = 2
    stale = UnitsOpened(ESCROW, 0, 1, (), b"", ())
    with pytest.raises(Refused) as caught:
        court.hear(PROVIDER, stale)
    assert caught.value.code == "replay"
    with pytest.raises(Refused) as caught:
        court.hear(PROVIDER, Reveal(ESCROW, 0, 1, Digest(GOOD), 1, SALT))
    assert caught.value.code == "replay"
    assert not court.sent(RevealRequest)
