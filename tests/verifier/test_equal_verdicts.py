"""Several judges of one claim sign equal bytes, in whatever order they hear the same things."""

from __future__ import annotations

from itertools import permutations

import pytest

from protocol import wire
from protocol.identity import Identity
from protocol.messages import AuditCommit, Submit
from protocol.operations import seal
from simulations import units
from simulations.units import EXACT, Conduct
from tests.verifier.court import ESCROW, PROVIDER
from tests.verifier.heir_court import EPOCHS, HeirCourt
from tests.verifier.unit_court import UNITS, UnitCourt, skipping, unit_job
from verifier.case import Auditing, Opening

JUDGES = tuple(Identity(bytes([60 + number]) * 32) for number in range(3))
AUDITORS = tuple(Identity(bytes([70 + number]) * 32) for number in range(6))
TRIO = unit_job(samples=UNITS, auditors=3)


def signed(court: UnitCourt) -> bytes:
    """The bytes of the verdict."""
    ((_, message), *_) = court.sent(Submit)
    assert isinstance(message, Submit)
    return message.operations[0].body


def heard(court: UnitCourt, order: tuple[int, ...], conducts: tuple[Conduct, ...]) -> None:
    """All three seal in this order, and open when they are asked."""
    court.begin(5).unfold()
    asked = sorted(court.requests(), key=lambda pair: pair[0].peer)
    assert len(asked) == 3
    for number in order:
        auditor, request = asked[number]
        made = units.replay(court.run(request), court.provided.read, conducts[number])
        court.results[auditor.peer] = made
        court.salts[auditor.peer] = auditor.peer
        court.hear(auditor, AuditCommit(ESCROW, 0, 1, seal(auditor.peer, auditor.peer, made.output)))
    court.show()
    while isinstance(court.case.state, Auditing | Opening):
        for auditor, request in court.requests():
            court.seal(auditor, request)
        if isinstance(court.case.state, Opening):
            court.uncover(court.by_peer[court.case.state.auditor])


@pytest.mark.parametrize(
    "conducts",
    [(EXACT, EXACT, EXACT), (skipping(3), EXACT, EXACT), (EXACT, EXACT, skipping(3))],
)
@pytest.mark.parametrize("claimed", [EXACT, skipping(3)])
def test_whoever_seals_first_the_verdict_is_the_same(claimed: Conduct, conducts: tuple[Conduct, ...]) -> None:
    said = set()
    for judge, order in zip(JUDGES * 2, permutations(range(3)), strict=True):
        court = UnitCourt(TRIO, claimed, AUDITORS, key=judge)
        heard(court, order, conducts)
        said.add(signed(court))
    assert len(said) == 1


def test_blame_is_signed_alike_and_names_all_who_found_it() -> None:
    courts = [HeirCourt((4, 8), TRIO, skipping(2), AUDITORS, key=judge) for judge in JUDGES * 2]
    for court, order in zip(courts, permutations(range(3)), strict=True):
        heard(court, order, (EXACT, EXACT, EXACT))
        court.hear(PROVIDER, court.shown())
    said = {signed(court) for court in courts}
    assert len(said) == 1
    verdict = courts[0].verdict()
    assert (verdict.outcome, verdict.blamed) == ("fraud", EPOCHS[0])
    agreed = verdict.agreed or ()
    assert agreed == tuple(sorted(agreed)) and {verdict.auditor, *agreed} <= {auditor.peer for auditor in AUDITORS}
    assert wire.encode(verdict) == said.pop()


def test_a_judge_that_is_a_party_shares_with_nobody() -> None:
    """The ledger takes no list of auditors from which the named one does not get anything itself."""
    court = UnitCourt(TRIO, auditors=AUDITORS, key=JUDGES[0])
    heard(court, (0, 1, 2), (EXACT, EXACT, EXACT))
    verdict = court.verdict()
    assert len(verdict.agreed or ()) == 2
    assert not {PROVIDER.peer, court.case.steward, court.case.renter} & {verdict.auditor, *(verdict.agreed or ())}
