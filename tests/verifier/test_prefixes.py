"""Bad units that a provider went on from: whoever signed for them is at fault, if the provider can show it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused, RemoteViolation
from protocol.escrow_state import Standing
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import PrefixOpened, PrefixRequest
from protocol.operations import Inherited
from protocol.prefix import first_units
from protocol.proof import Opening, Trace
from protocol.provider_trace import committed
from protocol.trace import TraceTree, decode_trace
from protocol.units import PPM
from simulations import units
from simulations.units import Conduct
from tests.verifier.court import ESCROW, ME, PROVIDER, STRANGER
from tests.verifier.heir_court import EPOCHS, OLD, OLDER, HeirCourt, words
from tests.verifier.unit_court import CHEAPER, THIRD, UNITS, UnitCourt, noisy, skipping, unit_job
from verifier.deadlines import ASK_AGAIN, PREFIX_TIMEOUT
from verifier.prefixes import is_theirs, suspect

ALL = unit_job(samples=UNITS)
SIGNED = (4, 8)
Forge = Callable[[HeirCourt, PrefixOpened], PrefixOpened]


@pytest.mark.parametrize(("unit", "blamed"), [(0, 7), (3, 7), (4, 8), (7, 8), (8, 0), (UNITS - 1, 0)])
def test_whoever_signed_first_for_a_bad_unit_is_at_fault(unit: int, blamed: int) -> None:
    court = HeirCourt(SIGNED, ALL, skipping(unit)).heard()
    if blamed:
        assert court.wanted() == PrefixRequest(ESCROW, 0, 1, blamed, unit)
        court.hear(PROVIDER, court.shown())
    assert (*court.found(), court.blamed) == ("fraud", "unit_differs", True, blamed)


def test_with_a_bad_unit_of_its_own_the_provider_is_at_fault_itself() -> None:
    """Where both are seen: what is replayed right behind a bad unit begins at another state."""
    for beacon in range(1, 40):
        court = HeirCourt((6,), conduct=skipping(0, UNITS - 1)).heard(beacon)
        unfolded = court.case.unfolded
        assert unfolded is not None
        assert {0, UNITS - 1} <= set(unfolded.indices)
        assert (*court.found(), court.blamed) == ("fraud", "unit_differs", True, 0)


def test_units_replayed_behind_a_bad_one_do_not_hide_whose_it_was() -> None:
    """Every unit is replayed, and all behind unit 3 come out otherwise: only unit 3 is bad by itself."""
    court = HeirCourt(SIGNED, ALL, skipping(3)).heard()
    assert court.wanted().index == 3


def test_of_several_who_cheated_the_first_is_blamed() -> None:
    court = HeirCourt(SIGNED, ALL, skipping(2, 5)).heard()
    court.hear(PROVIDER, court.shown())
    assert court.blamed == EPOCHS[0]


def test_an_honest_claim_that_went_on_from_honest_units_is_accepted() -> None:
    assert HeirCourt(SIGNED, ALL).heard().found() == ("accept", "units_equal", True)


def test_other_data_in_an_inherited_unit_is_its_signers() -> None:
    court = HeirCourt(SIGNED, ALL, Conduct(feeds=lambda index: index == 5)).heard()
    court.hear(PROVIDER, court.shown())
    assert (*court.found(), court.blamed) == ("fraud", "bad_schedule", True, EPOCHS[1])


def test_within_a_tolerance_the_signer_is_rejected() -> None:
    job = unit_job("D3", samples=UNITS)
    unfolded = HeirCourt(SIGNED, job).begin().unfold().case.unfolded
    assert unfolded is not None
    theirs, own = min(unfolded.indices), max(unfolded.indices)
    for bad, blamed in ((theirs, EPOCHS[0]), (own, 0)):
        court = HeirCourt(SIGNED, job, noisy(CHEAPER, bad)).heard()
        if blamed:
            court.hear(PROVIDER, court.shown())
        assert (*court.found(), court.blamed) == ("rejected", "out_of_tolerance", True, blamed)


def test_a_unit_at_which_two_replays_break_is_its_signers_where_they_say_which() -> None:
    for reason, blamed in (("exit: unit 2: shapes", 7), ("exit: shapes", 0), ("exit: unit 99", 0), ("exit: unit 9", 0)):
        court = HeirCourt(SIGNED, ALL)
        court.begin().unfold()
        for number in range(2):
            auditor = court.requests()[0][0]
            court.commit(ZERO_DIGEST, auditor)
            if not number:
                court.show()
            court.open(ZERO_DIGEST, auditor, reason)
        if blamed:
            court.hear(PROVIDER, court.shown())
        assert (*court.found(), court.blamed) == ("rejected", "unit_unreplayable", True, blamed)


# ── a provider that lies, or says nothing ────────────────────────────────────────────────────────────────────────────
def test_who_does_not_show_it_in_time_is_at_fault_itself() -> None:
    court = HeirCourt(SIGNED, ALL, skipping(2)).heard()
    court.wait(ASK_AGAIN)
    assert court.wanted().index == 2
    court.wait(PREFIX_TIMEOUT - ASK_AGAIN)
    assert (*court.found(), court.blamed) == ("fraud", "unit_differs", True, 0)


def _of_the_claim(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    tree = TraceTree(court.trace)
    return msgspec.structs.replace(opened, before=tree.open(2), after=tree.open(3))


def _another_unit(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    tree = TraceTree(first_units(court.trace, SIGNED[0]))
    return msgspec.structs.replace(opened, before=tree.open(1), after=tree.open(2))


def _twice(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    return msgspec.structs.replace(opened, after=opened.before)


def _swapped(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    return msgspec.structs.replace(opened, before=opened.after, after=opened.before)


def _of_another_lease(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    tree = TraceTree(first_units(court.trace, SIGNED[1]))
    return msgspec.structs.replace(opened, inherited=EPOCHS[1], before=tree.open(2), after=tree.open(3))


def _forged_state(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    bent = msgspec.structs.replace(opened.after.leaf, state=b"x" * 32)
    return msgspec.structs.replace(opened, after=Opening(bent, opened.after.path))


def _honest_leaves(court: HeirCourt, opened: PrefixOpened) -> PrefixOpened:
    made = units.execute(court.run())
    tree = TraceTree(first_units(decode_trace(made.blobs[made.trace], PROVIDER.peer), SIGNED[0]))
    return msgspec.structs.replace(opened, before=tree.open(2), after=tree.open(3))


@pytest.mark.parametrize(
    "forge", [_of_the_claim, _another_unit, _twice, _swapped, _of_another_lease, _forged_state, _honest_leaves]
)
def test_an_answer_that_does_not_prove_it_proves_the_contrary(forge: Forge) -> None:
    court = HeirCourt(SIGNED, ALL, skipping(2)).heard()
    court.hear(PROVIDER, forge(court, court.shown()))
    assert (*court.found(), court.blamed) == ("fraud", "unit_differs", True, 0)


class Framing(HeirCourt):
    """A provider that spoils a unit which it had inherited in good order, and names who signed for the good one."""

    def __init__(self) -> None:
        super().__init__(SIGNED, ALL, skipping(2))
        self.prefixes = words(self.good, SIGNED)
        self.provided.trace = committed(self.made.trace, UNITS, PROVIDER.peer, self.provided.read)

    @property
    def good(self) -> Trace:
        made = units.execute(self.run())
        return decode_trace(made.blobs[made.trace], PROVIDER.peer)


@pytest.mark.parametrize("is_good", [True, False])
def test_nobody_is_framed_for_a_unit_that_was_good_when_it_was_signed(is_good: bool) -> None:
    court = Framing()
    court.heard()
    tree = TraceTree(first_units(court.good if is_good else court.trace, SIGNED[0]))
    court.hear(PROVIDER, PrefixOpened(ESCROW, 0, 1, EPOCHS[0], tree.open(2), tree.open(3)))
    assert (*court.found(), court.blamed) == ("fraud", "unit_differs", True, 0)


def test_strangers_echoes_and_what_nobody_asked_for() -> None:
    court = HeirCourt(SIGNED, ALL, skipping(2))
    court.begin().unfold()
    asked = PrefixRequest(ESCROW, 0, 1, EPOCHS[0], 2)
    unasked = court.provided.trace.prefix(ME.peer, asked, court.provided.read)
    with pytest.raises(Refused) as caught:
        court.hear(PROVIDER, unasked)
    assert caught.value.code == "too_early"
    court = HeirCourt(SIGNED, ALL, skipping(2)).heard()
    with pytest.raises(RemoteViolation) as foreign:
        court.hear(STRANGER, unasked)
    assert foreign.value.code == "not_the_provider"
    court.hear(PROVIDER, unasked)
    assert court.blamed == EPOCHS[0]
    assert court.hear(PROVIDER, unasked) == []
    assert court.hear(PROVIDER, msgspec.structs.replace(unasked, chunk=1)) == []


# ── what an inheritance means for the rest of a case ─────────────────────────────────────────────────────────────────
def test_a_check_that_fails_slashes_nobody_where_units_are_inherited() -> None:
    """It says nothing of whose units are bad, and the provider has only its own under its hands."""
    for signed, outcome in ((SIGNED, "rejected"), ((), "fraud")):
        court = HeirCourt(signed, unit_job(check=("check",))).heard()
        for _ in range(2):
            auditor = court.requests()[0][0]
            court.commit(ZERO_DIGEST, auditor)
            court.open(ZERO_DIGEST, auditor, "exit: 1")
        assert (*court.found(), court.blamed) == (outcome, "check_failed", True, 0)


def test_nobody_audits_units_of_its_own() -> None:
    court = HeirCourt(SIGNED, ALL, auditors=(OLDER, OLD, THIRD)).begin().unfold()
    assert [auditor for auditor, _ in court.requests()] == [THIRD]


def test_a_claim_is_trusted_as_little_as_the_least_of_its_makers() -> None:
    court = HeirCourt(SIGNED, unit_job(audit_ppm=0))
    court.state.standings = {
        PROVIDER.peer: Standing(consecutive_valid=10**6),
        OLDER.peer: Standing(consecutive_valid=10**6),
        OLD.peer: Standing(consecutive_valid=3, probation=1),
    }
    court.begin()
    assert (court.case.consecutive_valid, court.case.on_probation) == (3, True)
    assert court.waits_for == "Unfolding"
    assert court.case.done_ppm == PPM * SIGNED[1] // UNITS, "what others did takes the provider no time"
    stranger = UnitCourt(unit_job(audit_ppm=0), valid=10**9).begin()
    assert (stranger.case.on_probation, stranger.case.done_ppm) == (False, 0)


def word(epoch: int, count: int) -> Inherited:
    return Inherited(epoch, count, bytes(32), bytes(64))


@given(
    signed=st.lists(st.integers(1, 20), max_size=5, unique=True).map(sorted),
    bad=st.frozensets(st.integers(0, 24), max_size=4),
)
def test_the_oldest_word_that_covers_the_first_bad_unit(signed: list[int], bad: frozenset[int]) -> None:
    inherited = [word(epoch, count) for epoch, count in enumerate(signed, start=1)]
    found = suspect(inherited, bad)
    if not bad or not signed or any(unit >= signed[-1] for unit in bad):
        assert found is None
        return
    assert found is not None
    entry, unit = found
    assert unit == min(bad) and entry.units > unit
    assert all(other.units <= unit for other in inherited if other.epoch < entry.epoch)


def test_the_last_leaf_of_a_prefix_holds_the_state_alone() -> None:
    court = HeirCourt(SIGNED, ALL)
    trace: Trace = court.trace
    entry = court.prefixes[0]
    tree = TraceTree(first_units(trace, entry.units))
    opened = PrefixOpened(ESCROW, 0, 1, entry.epoch, tree.open(3), tree.open(4))
    assert is_theirs(entry, 3, opened, trace.leaves[3], trace.leaves[4])
    other = msgspec.structs.replace(trace.leaves[4], state_bytes=1)
    assert not is_theirs(entry, 3, opened, trace.leaves[3], other)


@pytest.mark.parametrize(
    ("tainted", "is_suspect"), [({}, False), ({99: OLD.peer}, False), ({EPOCHS[0]: OLD.peer}, True)]
)
def test_what_rests_on_units_that_were_found_bad_meanwhile_is_looked_at(
    tainted: dict[int, bytes], is_suspect: bool
) -> None:
    court = HeirCourt((4, 8)).begin(1)
    assert not court.case.on_probation
    court.escrow.chunks[0].tainted = tainted
    court.judge.cases.clear()
    court.judge.resume(court.now)
    assert court.case.on_probation == is_suspect
