"""Attack 28: the auditor is the executor's friend and vouches for whatever it claims."""

from __future__ import annotations

from math import comb

import pytest

from protocol.identity import Identity
from protocol.units import PeerId
from simulations.units import EXACT
from tests.verifier.court import SECOND_AUDITOR
from tests.verifier.unit_court import THIRD, UNITS, UnitCourt, skipping, unit_job
from verifier.bench import Caution

POOL = tuple(Identity(bytes([100 + number]) * 32) for number in range(10))
FRIENDS = frozenset(identity.peer for identity in POOL[:3])
CHEAT = skipping(5)
TRIALS = 150


def outcome(auditors: int, beacon: int, pool: tuple[Identity, ...] = POOL) -> str:
    """A cheating claim to its verdict; friends compute as badly as the provider did, so that their results fit."""
    court = UnitCourt(unit_job(samples=UNITS, auditors=auditors), CHEAT, pool).begin(beacon).unfold()
    is_shown = False
    while True:
        asked = court.requests()
        for auditor, request in asked:
            court.seal(auditor, request, CHEAT if auditor.peer in FRIENDS else EXACT)
        if not is_shown:
            court.show()
            is_shown = True
        while court.waits_for == "Opening":
            auditor = next(item for item, _ in asked if item.peer == _opening(court))
            court.uncover(auditor)
        if court.waits_for == "Decided":
            return court.found()[0]


def bought(auditors: int, friends: int = 0, honest: int = 0) -> float:
    """Chance that a cheat is accepted: auditors come in any order, two honest ones refute it, and friends must outweigh
    whoever contradicts them."""
    if honest == 2:
        return 0.0
    if friends >= auditors + honest:
        return 1.0
    left = len(POOL) - friends - honest
    friendly = (len(FRIENDS) - friends) / left
    more = friendly * bought(auditors, friends + 1, honest) if friendly else 0.0
    return more + (1 - friendly) * bought(auditors, friends, honest + 1)


@pytest.mark.parametrize("auditors", [1, 2, 3])
def test_success_is_as_rare_as_a_panel_of_friends(auditors: int) -> None:
    expected, alone = bought(auditors), comb(len(FRIENDS), auditors) / comb(len(POOL), auditors)
    accepted = sum(outcome(auditors, beacon) == "accept" for beacon in range(1, TRIALS + 1))
    spread = (expected * (1 - expected) / TRIALS) ** 0.5
    assert abs(accepted / TRIALS - expected) <= 4 * spread + 1 / TRIALS
    assert expected <= 1.3 * alone, "being drawn later, against one who told the truth, helps a friend little"
    assert alone <= (len(FRIENDS) / len(POOL)) ** auditors


def test_it_is_not_known_before_the_claim_who_audits() -> None:
    drawn = set()
    for beacon in range(1, 40):
        court = UnitCourt(auditors=POOL).begin(beacon).unfold()
        drawn.add(court.requests()[0][0].peer)
    assert len(drawn) == len(POOL)


def test_friends_in_the_same_network_are_never_drawn() -> None:
    networks = {identity.peer: frozenset({"20.0.0.0/24"}) for identity in POOL[:3]}

    def network(peer: PeerId) -> frozenset[str]:
        return networks.get(peer, frozenset({"20.0.0.0/24"} if peer not in {item.peer for item in POOL} else ()))

    for beacon in range(1, 30):
        court = UnitCourt(auditors=POOL, caution=Caution(networks=network)).begin(beacon).unfold()
        assert court.requests()[0][0].peer not in FRIENDS


def test_a_friend_that_vouched_is_named_when_two_refute_it() -> None:
    court = UnitCourt(unit_job(samples=UNITS, auditors=2), CHEAT, (SECOND_AUDITOR, THIRD)).begin().unfold()
    friend, honest = (auditor for auditor, _ in court.requests())
    for (auditor, request), conduct in zip(court.requests(), (CHEAT, EXACT), strict=True):
        court.seal(auditor, request, conduct)
    court.show()
    court.uncover(friend)
    court.uncover(honest)
    court.uncover(court.replay())
    assert court.found() == ("fraud", "unit_differs", True)
    assert court.verdict().faulted == (friend.peer,)


def test_the_honest_twin_is_accepted_by_any_panel() -> None:
    for beacon in range(1, 10):
        court = UnitCourt(unit_job(auditors=1), auditors=POOL)
        assert court.judged(EXACT, beacon=beacon) == ("accept", "units_equal", True)


def _opening(court: UnitCourt) -> PeerId:
    return next(iter(court.case.hearing.seals)) if court.case.hearing is not None else PeerId(bytes(32))
