"""What a judge keeps when it has decided: written when the verdict is ordered, forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from protocol import dossier, wire
from protocol.beacon import value_of
from protocol.block import header_hash
from protocol.effects import Effect, Store
from protocol.ledger import operation_decoder
from protocol.messages import Receipts, Reveal
from protocol.operations import BeaconReveal, Operation, Verdict, signed_op
from protocol.units import SECOND, Micros
from simulations.units import EXACT
from tests.verifier.beacon_blocks import KEYS, NETWORK, beacon_blocks, block_of, commit, header_at, made, secret_of
from tests.verifier.court import CHAIN, ESCROW, ME, Court
from tests.verifier.unit_court import UnitCourt
from verifier.beacon_proof import beacon_of
from verifier.block_log import BlockLog
from verifier.case import Case
from verifier.dossiers import BEACONS_MAX, KEPT_BYTES, KEPT_FOR, Dossiers, key_of

PLACE = (ESCROW, 0, 1)
NOW = Micros(0)


def stored(effects: list[Effect]) -> dict[str, bytes | None]:
    return {effect.key: effect.value for effect in effects if isinstance(effect, Store)}


def hear(dossiers: Dossiers, receipts: Receipts) -> None:
    """A block comes by, as at the judge."""
    dossiers.ordered(receipts, [wire.decode(one.body, operation_decoder, ME.peer) for one in receipts.operations])


def case_of(beacon: bytes = b"") -> Case:
    court = UnitCourt()
    assert court.judged(EXACT) == ("accept", "units_equal", True)
    court.case.beacon = beacon or court.case.beacon  # type: ignore[assignment]
    return court.case


def test_the_record_is_written_when_the_verdict_is_ordered() -> None:
    court = UnitCourt()
    court.judged(EXACT)
    verdict, expected = court.verdict(), court.judge.dossiers.dossier_of(court.case)
    effects = court.hear(ME, court.receipts(signed_op(CHAIN, verdict, ME)))
    assert stored(effects) == {key_of(PLACE): wire.encode(expected)} and not court.judge.cases
    kept = dossier.decode(wire.encode(expected), ME.peer)
    assert kept == expected and isinstance(kept.reveal, Reveal) and kept.units is not UNSET
    assert [(one.auditor, one.purpose, one.reason) for one in kept.heard] == [(verdict.auditor, "work", "ok")]
    assert wire.digest(kept.heard[0].results) == verdict.evidence


def test_a_claim_that_the_ledger_no_longer_waits_for_is_kept_too() -> None:
    """Its verdict may be ordered before the judge hears of it in any other way."""
    court = UnitCourt()
    court.judged(EXACT)
    court.escrow.chunks[0].state = "paid"
    assert list(stored(court.wait(SECOND))) == [key_of(PLACE)]


def test_nothing_is_kept_where_nothing_was_opened() -> None:
    court = Court(valid=10**9)
    court.claim()
    verdict = Verdict(ESCROW, 0, 1, "missing", False, ME.peer, bytes(32), bytes(32), "not_revealed")
    assert not stored(court.hear(ME, court.receipts(signed_op(CHAIN, verdict, ME)))) and not court.judge.cases


def test_old_records_go_and_so_does_the_oldest_of_too_many() -> None:
    dossiers, case = Dossiers(), case_of()
    kept = len(stored(dossiers.keep(case, NOW))[key_of(PLACE)] or b"")
    case.place = (ESCROW, 1, 1)
    later = Micros(NOW + KEPT_FOR)
    assert stored(dossiers.keep(case, later))[key_of(PLACE)] is None and len(dossiers) == 1
    dossiers.restore([(key_of(PLACE), KEPT_BYTES - kept - 1)], later)
    assert len(dossiers) == 2 and not dossiers.forget(later)
    case.place = (ESCROW, 2, 1)
    effects = stored(dossiers.keep(case, later))
    assert effects[key_of((ESCROW, 1, 1))] is None and effects[key_of((ESCROW, 2, 1))] and len(dossiers) == 2


def test_old_records_go_also_where_no_claim_comes_any_more() -> None:
    court = Court()
    court.judge.dossiers.restore([(key_of(PLACE), 10)], court.now)
    assert not stored(court.wait(SECOND))
    assert stored(court.wait(KEPT_FOR)) == {key_of(PLACE): None} and not len(court.judge.dossiers)


def test_the_same_claim_is_kept_once() -> None:
    dossiers, case = Dossiers(), case_of()
    dossiers.keep(case, NOW)
    assert list(stored(dossiers.keep(case, NOW))) == [key_of(PLACE)] and len(dossiers) == 1


def test_the_parts_of_the_beacon_are_kept_with_the_claim() -> None:
    dossiers = Dossiers()
    blocks, value = beacon_blocks()
    for receipts in blocks:
        hear(dossiers, receipts)
    kept = dossiers.dossier_of(case_of(value))
    assert len(kept.beacon) == 4 and beacon_of(kept.beacon, header_at(20), NETWORK.validator_set) == value
    assert dossiers.dossier_of(case_of(bytes(32))).beacon == (), "another one is none of these"
    undrawn = case_of(value)
    undrawn.unfolded = None
    assert dossiers.dossier_of(undrawn).beacon == (), "and it says nothing where no unit was drawn"


def test_beacons_are_forgotten_and_one_that_was_begun_unheard_is_not_taken_for_whole() -> None:
    dossiers, (blocks, value) = Dossiers(), beacon_blocks(1)
    for receipts in blocks:
        hear(dossiers, receipts)
    for number in range(2, BEACONS_MAX + 2):
        hear(dossiers, beacon_blocks(number)[0][0])
    hear(dossiers, block_of(90, BeaconReveal(99, KEYS[0].peer, secret_of(KEYS[0], 99))))
    hear(dossiers, block_of(91, BeaconReveal(2, KEYS[0].peer, secret_of(KEYS[0], 2)), status="refused"))
    assert dossiers.dossier_of(case_of(value)).beacon == ()


def test_a_judge_that_was_started_again_reads_the_newest_blocks() -> None:
    """Else a claim that was drawn before would be kept without the beacon that drew it."""
    seals = [commit(key, 7, secret_of(key, 7)) for key in KEYS]
    opened = [BeaconReveal(7, key.peer, secret_of(key, 7)) for key in KEYS]
    log = BlockLog([])
    stories: tuple[Sequence[Operation], ...] = (seals[:1], (), seals[1:], opened)
    for height, operations in enumerate(stories, start=1):
        whole, outcomes = made(height, operations)
        log.add(wire.encode(whole), outcomes)
    first = made(1, seals[:1])[0].header
    value = value_of(7, header_hash(first), {key.peer: secret_of(key, 7) for key in KEYS})
    judge = Court().judge
    for receipts in log.newest(64):
        judge.recall(receipts)
    assert beacon_of(judge.dossiers.dossier_of(case_of(value)).beacon, first, NETWORK.validator_set) == value
    assert [one.header.height for one in log.newest(2)] == [3, 4]
