"""Who is audited and by whom: fair, unpredictable before the beacon, the same for everybody after it."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Capability, Offer, Runtime
from protocol.units import PPM, PeerId
from verifier.sampling import AUDITOR_STAKE_CAP, audit_ppm, draw_auditor, is_comparable, is_drawn

PLACE = (b"e" * 32, 3, 1)


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def beacon(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@given(floor=st.integers(0, PPM), valid=st.integers(0, 10**9))
def test_the_share_never_leaves_its_bounds(floor: int, valid: int) -> None:
    assert floor <= audit_ppm(floor, valid) <= PPM
    assert audit_ppm(floor, valid + 1) <= audit_ppm(floor, valid)
    assert audit_ppm(floor, 0) == PPM


@pytest.mark.parametrize("ppm", [10_000, 100_000, 500_000])
def test_draws_hit_the_share(ppm: int) -> None:
    hits = sum(is_drawn(beacon(n), *PLACE, ppm) for n in range(4_000))
    sigma = (4_000 * ppm * (PPM - ppm)) ** 0.5 / PPM
    assert abs(hits - 4_000 * ppm / PPM) < 4 * sigma


def test_certain_and_impossible_draws() -> None:
    assert all(is_drawn(beacon(n), *PLACE, PPM) for n in range(200))
    assert not any(is_drawn(beacon(n), *PLACE, 0) for n in range(200))


def test_every_part_of_the_place_matters() -> None:
    places: list[tuple[bytes, int, int]] = [PLACE, (b"f" * 32, 3, 1), (b"e" * 32, 4, 1), (b"e" * 32, 3, 2)]
    patterns = {tuple(is_drawn(beacon(n), *place, ppm=PPM // 2) for n in range(64)) for place in places}
    assert len(patterns) == 4


def test_auditors_are_drawn_by_capped_stake() -> None:
    stakes = {peer(1): AUDITOR_STAKE_CAP, peer(2): 50 * AUDITOR_STAKE_CAP, peer(3): AUDITOR_STAKE_CAP // 2, peer(4): 0}
    hits = dict.fromkeys(stakes, 0)
    for n in range(2_500):
        drawn = draw_auditor(beacon(n), PLACE, 0, stakes, frozenset())
        assert drawn is not None
        hits[drawn] += 1
    assert hits[peer(4)] == 0
    assert abs(hits[peer(1)] - 1000) < 110
    assert abs(hits[peer(2)] - 1000) < 110
    assert abs(hits[peer(3)] - 500) < 90


@given(
    stakes=st.dictionaries(st.integers(1, 20), st.integers(0, 2 * AUDITOR_STAKE_CAP), max_size=8),
    excluded=st.sets(st.integers(1, 20)),
    turn=st.integers(0, 5),
    number=st.integers(0, 10**6),
)
def test_nobody_excluded_is_ever_drawn(stakes: dict[int, int], excluded: set[int], turn: int, number: int) -> None:
    candidates = {peer(n): stake for n, stake in stakes.items()}
    barred = frozenset(map(peer, excluded))
    drawn = draw_auditor(beacon(number), PLACE, turn, candidates, barred)
    able = set(candidates) - barred
    assert (drawn in able) if able else drawn is None
    reordered = dict(reversed(list(candidates.items())))
    assert draw_auditor(beacon(number), PLACE, turn, reordered, barred) == drawn


def test_a_second_turn_draws_anew() -> None:
    stakes = {peer(n): 1 for n in range(1, 9)}
    assert len({draw_auditor(beacon(1), PLACE, turn, stakes, frozenset()) for turn in range(12)}) > 2


def test_only_like_runtimes_compare_in_class_d2() -> None:
    capability = Capability(1000, 1, 1, 1, 1)
    base = Offer(1, 0, 1, ("provider",), (), capability, (), (Runtime("torch", b"a" * 32),), 1, 1, 0, ())
    other = msgspec.structs.replace(base, runtimes=(Runtime("torch", b"b" * 32),))
    assert is_comparable("D2", "torch", base, base)
    assert not is_comparable("D2", "torch", base, other)
    assert all(is_comparable(numeric, "torch", base, other) for numeric in ("D0", "D1", "D3"))
    assert is_comparable("D2", "image:x@sha256:1", base, other)
