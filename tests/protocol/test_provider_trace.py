"""What a provider shows of a trace, to whom, and when it forgets it."""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.effects import Compute, Forget, Store
from protocol.errors import Refused, RemoteViolation
from protocol.held import Held, held_id
from protocol.ledger import Ledger
from protocol.messages import PrefixRequest, UnitsRequest
from protocol.operations import Inherited
from protocol.prefix import root_of
from protocol.provider_trace import KeptTrace, LeaseTrace, Traces, committed
from protocol.units import Digest, PeerId
from tests.protocol.ledger_world import GENESIS
from tests.verifier.test_trace import trace
from verifier.trace import check_effects, check_openings

UNITS = 9
BODY = wire.encode(trace(UNITS))
BLOBS = {wire.digest(BODY): BODY}
JUDGE, OTHER, ME = (PeerId(bytes([number]) * 32) for number in (1, 2, 3))
PLACE = (b"e" * 32, 0, 1)


def kept() -> LeaseTrace:
    return committed(wire.digest(BODY), UNITS, ME, BLOBS.__getitem__)


def asked(*indices: int) -> UnitsRequest:
    return UnitsRequest(*PLACE, indices)


def test_effects_then_leaves_all_under_the_claims_root() -> None:
    mine = kept()
    first = mine.answer(JUDGE, asked(), BLOBS.__getitem__)
    assert first.openings == ()
    check_effects(mine.root, UNITS, first.effects, first.effects_path)
    second = mine.answer(JUDGE, asked(0, 4, 8), BLOBS.__getitem__)
    assert set(check_openings(mine.root, UNITS, second.openings, {0, 4, 8})) == {0, 4, 8}
    assert second.effects == first.effects
    behind = mine.behind(JUDGE, BLOBS.__getitem__)
    assert [opening.leaf.index for opening in behind] == [1, 5, 9]
    assert [opening.leaf.index for opening in mine.behind(OTHER, BLOBS.__getitem__)] == [9], "it chose nothing"


def test_each_validator_has_one_choice() -> None:
    mine = kept()
    assert mine.answer(JUDGE, asked(1, 3), BLOBS.__getitem__) == mine.answer(JUDGE, asked(1, 3), BLOBS.__getitem__)
    assert mine.answer(JUDGE, asked(), BLOBS.__getitem__).openings == (), "the effects as often as it likes"
    with pytest.raises(RemoteViolation) as caught:
        mine.answer(JUDGE, asked(1, 4), BLOBS.__getitem__)
    assert caught.value.code == "equivocation"
    mine.answer(OTHER, asked(1, 4), BLOBS.__getitem__)


@pytest.mark.parametrize("indices", [(UNITS,), (2, 1), (1, 1)])
def test_units_that_are_none_are_an_offence(indices: tuple[int, ...]) -> None:
    with pytest.raises(RemoteViolation) as caught:
        kept().answer(JUDGE, asked(*indices), BLOBS.__getitem__)
    assert caught.value.code == "out_of_range"


def test_a_program_without_a_trace_of_all_units_cannot_be_claimed() -> None:
    for digest, units in ((Digest(bytes(32)), UNITS), (wire.digest(BODY), UNITS + 1)):
        with pytest.raises(Refused) as caught:
            committed(digest, units, ME, BLOBS.__getitem__)
        assert caught.value.code == "no_trace"
    with pytest.raises(RemoteViolation):
        committed(wire.digest(b"\xc1"), UNITS, ME, lambda _: b"\xc1")


def test_a_trace_is_kept_while_its_lease_runs_or_its_verdict_can_be_appealed() -> None:
    traces, mine, ledger = Traces(), kept(), Ledger(GENESIS)
    traces.keep(PLACE, mine)
    assert traces.by_root == {mine.root: mine.digest}
    assert traces.release([PLACE], ledger) == []
    held = Held(escrow=PLACE[0], chunk=0, epoch=1, output=b"o" * 32, provider=ME, assign=b"a" * 32, price=1,
                collateral=1, trace=mine.root, verdict="accept",
                finding="accept", code="units_equal", until=1, is_audited=True, auditor=OTHER, response=1)  # fmt: skip
    ledger.held[held_id(*PLACE)] = held
    assert traces.release([], ledger) == []
    held.end = "paid"
    assert traces.release([], ledger) == [Compute(Forget(mine.digest))]
    assert (len(traces), traces.by_root) == (0, {})


def test_who_went_on_with_units_of_others_can_show_them_after_a_restart() -> None:
    """Else a provider that is started again while it is judged would answer for units that it did not do."""
    inherited = (Inherited(7, 4, root_of(trace(UNITS), 4), bytes(64)),)
    mine = committed(wire.digest(BODY), UNITS, ME, BLOBS.__getitem__, inherited)
    ledger, place = Ledger(GENESIS), (b"e" * 32, 0, 9)
    (stored,) = Traces().keep(place, mine, until=ledger.time)
    assert isinstance(stored, Store) and stored.key.startswith("trace/") and stored.value is not None
    again = Traces()
    again.restore([wire.decode(stored.value, wire.decoder(KeptTrace), ME)])
    assert again.release([], ledger) == [], "its lease is forgotten, and the judge may still ask"
    found = again.get(place)
    assert found is not None
    request = PrefixRequest(*place, 7, 3)
    assert found.prefix(JUDGE, request, BLOBS.__getitem__) == mine.prefix(JUDGE, request, BLOBS.__getitem__)
    late = Traces()
    late.restore([KeptTrace(*place, mine.digest, mine.root, UNITS, inherited, ledger.time - 1)])
    assert late.release([], ledger) == [Compute(Forget(mine.digest)), Store(stored.key, None)]
    assert Traces().keep(PLACE, kept()) == [], "who began at the beginning needs no record"
