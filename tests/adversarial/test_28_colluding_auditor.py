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


@pytest.mark.parametrize("auditors", [1, 2, 3])
def test_success_is_no_likelier_than_a_panel_of_friends_alone(auditors: int) -> None:
    accepted = sum(outcome(auditors, beacon) == "accept" for beacon in range(1, TRIALS + 1))
    bought = comb(len(FRIENDS), auditors) / comb(len(POOL), auditors)
    spread = (bought * (1 - bought) / TRIALS) ** 0.5
    # With one auditor a friend that is drawn second still saves the claim from the word of the first alone.
    if auditors == 1:
        second = (1 - bought) * len(FRIENDS) / (len(POOL) - 1)
        bought, spread = bought + second, ((bought + second) * (1 - bought - second) / TRIALS) ** 0.5
    else:
        bought += _saved_later(auditors)
        spread = (bought * (1 - bought) / TRIALS) ** 0.5
    assert accepted / TRIALS <= bought + 4 * spread + 1 / TRIALS


def _saved_later(auditors: int) -> float:
    """Panels with one honest member that a further friend outvotes: m friends against one who found the truth."""
    friends, others, count = len(FRIENDS), len(POOL) - len(FRIENDS), len(POOL)
    mixed = comb(friends, auditors - 1) * others / comb(count, auditors)
    return mixed * (friends - auditors + 1) / (count - auditors)


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
    spec = unit_job(samples=UNITS, auditors=2)
    for beacon in range(1, 60):
        court = UnitCourt(spec, CHEAT, POOL).begin(beacon).unfold()
        asked = court.requests()
        friends = [auditor.peer for auditor, _ in asked if auditor.peer in FRIENDS]
        if len(friends) != 1:
            continue
        assert outcome(2, beacon) in ("fraud", "accept")
        break
    court = UnitCourt(spec, CHEAT, (SECOND_AUDITOR, THIRD, POOL[0])).begin().unfold()
    for auditor, request in court.requests():
        court.seal(auditor, request, CHEAT if auditor.peer in FRIENDS else EXACT)


def test_the_honest_twin_is_accepted_by_any_panel() -> None:
    for beacon in range(1, 10):
        court = UnitCourt(unit_job(auditors=1), auditors=POOL)
        assert court.judged(EXACT, beacon=beacon) == ("accept", "units_equal", True)


def _opening(court: UnitCourt) -> PeerId:
    return next(iter(court.case.hearing.seals)) if court.case.hearing is not None else PeerId(bytes(32))
