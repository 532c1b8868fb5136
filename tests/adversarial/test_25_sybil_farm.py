"""Attack 25: a farm of many identities takes a larger share of the work than its stake.

The defence: every draw and every lease is bounded by stake, which splitting does not multiply.
"""

from __future__ import annotations

import hashlib
import math

import pytest

from protocol import exposure
from protocol.identity import Identity
from protocol.policy import Policy
from protocol.trust import share_of_draws_ppm
from protocol.units import CREDIT, PPM, PeerId
from tests.protocol.ledger_world import GENESIS, OTHER, PRICE, PROVIDERS, RENTER, STEWARD, World, assign, open_escrow
from verifier.sampling import AUDITOR_STAKE_CAP, draw_auditor

DRAWS = 3_000
HONEST = {PeerId(bytes([1, n]) + bytes(30)): 100 * CREDIT for n in range(8)}
FARM = tuple(PeerId(bytes([2, n]) + bytes(30)) for n in range(100))
FARM_STAKE = 200 * CREDIT


def drawn(stakes: dict[PeerId, int]) -> float:
    """Share of real draws that the farm gets."""
    hits = 0
    for number in range(DRAWS):
        beacon = hashlib.sha256(b"%d" % number).digest()
        hits += draw_auditor(beacon, (bytes(32), number, 1), 0, stakes, frozenset()) in FARM
    return hits / DRAWS


def test_a_split_stake_is_drawn_no_more_often_than_its_share() -> None:
    split = HONEST | dict.fromkeys(FARM, FARM_STAKE // len(FARM))
    share = FARM_STAKE / sum(split.values())
    assert drawn(split) <= share + 4 * math.sqrt(share * (1 - share) / DRAWS)
    names = {peer.hex(): stake for peer, stake in split.items()}
    mine = frozenset(peer.hex() for peer in FARM)
    assert share_of_draws_ppm(names, mine, AUDITOR_STAKE_CAP) == math.floor(share * PPM)


def test_the_honest_twin_with_the_stake_in_one_hand_gets_as_much() -> None:
    whole = HONEST | {FARM[0]: FARM_STAKE}
    share = FARM_STAKE / sum(whole.values())
    assert abs(drawn(whole) - share) <= 4 * math.sqrt(share * (1 - share) / DRAWS)


def test_identities_without_stake_are_never_drawn() -> None:
    assert drawn(HONEST | dict.fromkeys(FARM, 0)) == 0


@pytest.mark.parametrize("parts", [2, 10, 100])
def test_splitting_does_not_raise_what_may_be_in_flight(parts: int) -> None:
    kappa = exposure.kappa_ppm(Policy(has_exposure_cap=True))
    assert parts * (FARM_STAKE // parts * kappa // PPM) <= FARM_STAKE * kappa // PPM


def test_a_lease_without_stake_is_refused() -> None:
    world = World()
    escrow = world.ok(open_escrow(), RENTER)
    assert world.refused(assign(escrow, provider=OTHER), STEWARD, OTHER) == "insufficient_stake"
    world.ok(assign(escrow, provider=PROVIDERS[0]), STEWARD, PROVIDERS[0])


def test_leases_of_a_farm_are_worth_no_more_than_its_stake() -> None:
    """Collateral is the whole price: who splits a stake holds as many leases together as before."""
    farm = tuple(Identity(bytes([40 + n]) * 32) for n in range(6))
    balances = (*GENESIS.balances, *(("S", one.peer, PRICE // 2 + PRICE * (n == 0)) for n, one in enumerate(farm)))
    world = World(type(GENESIS)(GENESIS.chain, GENESIS.time, GENESIS.validators, balances))
    escrow = world.ok(open_escrow(), RENTER)
    held = 0
    for chunk, one in enumerate(farm):
        outcome = world.do(assign(escrow, chunk, provider=one), STEWARD, one)
        held += PRICE if outcome.status == "applied" else 0
        assert outcome.status == "applied" or outcome.code == "insufficient_stake"
    assert held == PRICE  # Of 4 prices of stake in halves: only the one identity that has a whole price of its own.
