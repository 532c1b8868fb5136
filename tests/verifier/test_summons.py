"""The order in which peers are called: the ledger's, by stake, and what each judge makes of it."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from protocol.escrow_state import Standing
from protocol.units import CREDIT, PeerId
from verifier import summons
from verifier.panel import SEATS
from verifier.sampling import AUDITOR_STAKE_CAP
from verifier.summons import ORDER_MAX, Fitness, order, roll, summon

PLACE = (b"e" * 32, 0, 1)
PEERS = [PeerId(bytes([n]) * 32) for n in range(1, 30)]
FITS: tuple[Fitness, ...] = ("fit", "unknown", "unfit")
seeds = st.binary(min_size=32, max_size=32)


def test_the_roll_is_whoever_has_stake_and_every_judge_but_no_cheat() -> None:
    stakes = {PEERS[0]: 5, PEERS[1]: 0, PEERS[2]: 7, PEERS[3]: 9}
    standings: dict[bytes, Standing] = {PEERS[2]: Standing(fraud=1), PEERS[3]: Standing(wrong=3)}
    assert roll(stakes, standings, (PEERS[0], PEERS[4])) == {PEERS[0]: 5, PEERS[3]: 9, PEERS[4]: 1}


@given(ticket=seeds)
def test_scarcity_is_the_logarithm(ticket: bytes) -> None:
    number = int.from_bytes(ticket[:8], "big") | 1
    assert math.isclose(summons._scarcity(ticket) / 2**48, 64 - math.log2(number), rel_tol=1e-9, abs_tol=1e-9)


@given(seed=seeds, stakes=st.lists(st.integers(0, 5), min_size=12, max_size=12), gone=st.integers(0, 11))
def test_one_who_leaves_moves_nobody_else(seed: bytes, stakes: list[int], gone: int) -> None:
    known = {peer: stake * CREDIT for peer, stake in zip(PEERS, stakes, strict=False)}
    drawn = order(seed, PLACE, known, frozenset())
    assert set(drawn) == {peer for peer, stake in known.items() if stake}
    without = order(seed, PLACE, known, frozenset({PEERS[gone]}))
    assert without == tuple(peer for peer in drawn if peer != PEERS[gone])
    assert drawn == order(seed, PLACE, dict(reversed(known.items())), frozenset())


def test_the_first_is_drawn_by_stake_up_to_the_cap() -> None:
    stakes = {PEERS[0]: 10**6 * CREDIT, PEERS[1]: int(AUDITOR_STAKE_CAP), PEERS[2]: AUDITOR_STAKE_CAP // 10}
    found = Counter(order(bytes([a, b]) * 16, PLACE, stakes, frozenset())[0] for a in range(30) for b in range(30))
    assert abs(found[PEERS[0]] - found[PEERS[1]]) < 120, "more than the cap buys nothing"
    assert 20 < found[PEERS[2]] < 80


def test_an_order_is_bounded() -> None:
    many = {PeerId(n.to_bytes(32, "big")): CREDIT for n in range(1, 200)}
    assert len(order(b"s" * 32, PLACE, many, frozenset())) == ORDER_MAX


@given(
    nets=st.lists(st.integers(0, 6), min_size=12, max_size=12),
    fits=st.lists(st.sampled_from(FITS), min_size=12, max_size=12),
    seats=st.sampled_from(SEATS),
)
def test_who_is_asked(nets: list[int], fits: list[Fitness], seats: int) -> None:
    networks = {peer: frozenset({str(net)}) for peer, net in zip(PEERS, nets, strict=False)}
    fitness = dict(zip(PEERS, fits, strict=False))
    sides = PEERS[:2]
    called = PEERS[2:12]
    called_up = summon(called, seats, fitness.__getitem__, networks.__getitem__, sides)
    everybody = (*called_up.members, *called_up.reserve)
    assert everybody == tuple(peer for peer in called if peer in everybody), "in the order"
    theirs = [next(iter(networks[peer])) for peer in everybody]
    assert len(set(theirs)) == len(theirs) and not {next(iter(networks[peer])) for peer in sides} & set(theirs)
    assert not [peer for peer in everybody if fitness[peer] == "unfit"]
    assert called_up.seats == min(seats, len(everybody))
    sure = [peer for peer in called_up.members if fitness[peer] == "fit"]
    assert len(sure) <= seats and len(called_up.members) <= 2 * seats
    assert len(sure) == seats or len(called_up.members) == 2 * seats or not called_up.reserve, (
        "as many as there are seats"
    )
