"""Beacons: what they cover, when a part may be opened, who pays for silence, and that nobody can choose the value."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import beacons
from protocol.accounts import RESERVE
from protocol.beacon import Beacon, seal_part, value_of
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.operations import BeaconCommit, BeaconReveal
from protocol.policy import Policy
from protocol.units import CREDIT, PPM, SECOND
from tests.protocol.ledger_world import (
    GENESIS,
    OTHER,
    PROVIDERS,
    STEWARD,
    VERDICT_BY,
    World,
    assign,
    claim,
    verdict,
    with_policy,
)

P = PROVIDERS[0]
JUDGES = tuple(Identity(bytes([60 + n]) * 32) for n in range(4))
BOND = 50 * CREDIT
TIME = 10 * SECOND
POLICY = Policy(dispute_window=0, has_beacon=True, beacon_time=TIME)
CODE: Genesis = replace(
    GENESIS,
    validators=tuple((item.peer, 1) for item in JUDGES),
    balances=(*GENESIS.balances, *(("S", item.peer, BOND) for item in JUDGES)),
    policy=POLICY,
)


def secret(judge: Identity) -> bytes:
    return judge.peer[::-1]


def sealed(judge: Identity, number: int = 1) -> BeaconCommit:
    return BeaconCommit(number, judge.peer, seal_part(judge.peer, number, secret(judge)))


def opened(judge: Identity, number: int = 1) -> BeaconReveal:
    return BeaconReveal(number, judge.peer, secret(judge))


class Court(World):
    """Four validators with stake, and blocks."""

    def __init__(self, code: Genesis = CODE) -> None:
        super().__init__(code)

    def block(self, number: int) -> None:
        self.ledger.state_root()
        self.ledger.commit(bytes([number]) * 32)

    def beacon(self, number: int = 1) -> Beacon:
        return self.ledger.beacons[number]

    def value(self, escrow: bytes) -> bytes:
        """The beacon of the claim on chunk 0."""
        return self.lease(escrow).beacon


@pytest.fixture
def court() -> Court:
    return Court()


def test_without_it_the_beacon_is_the_block_of_the_claim() -> None:
    for genesis in (GENESIS, with_policy()):
        world = World(genesis)
        e = world.claimed()
        assert world.ledger.beacon_wanted is None
        world.ledger.commit(b"h" * 32)
        assert world.lease(e).beacon == world.lease(e).claimed_in == b"h" * 32
        assert world.refused(sealed(STEWARD), STEWARD) == "not_signed"


def test_a_beacon_from_the_first_part_to_the_value(court: Court) -> None:
    e = court.claimed()
    court.block(1)
    assert (court.lease(e).claimed_in, court.value(e)) == (b"\1" * 32, b"")
    assert court.ledger.beacon_wanted == 1
    assert court.refused(verdict(e), *JUDGES) == "no_beacon"
    for judge in JUDGES[:3]:
        court.ok(sealed(judge), judge)
    assert court.refused(opened(JUDGES[0]), JUDGES[0]) == "too_early"
    court.block(2)
    court.ok(opened(JUDGES[1]), JUDGES[1])
    assert court.refused(sealed(JUDGES[3]), JUDGES[3]) == "beacon_sealed"
    court.ok(opened(JUDGES[0]), JUDGES[0])
    assert court.value(e) == b""
    court.ok(opened(JUDGES[2]), JUDGES[2])
    expected = value_of(1, b"\2" * 32, {item.peer: secret(item) for item in JUDGES[:3]})
    assert court.value(e) == court.beacon().value == expected
    court.ok(verdict(e), *JUDGES)


def test_it_covers_what_was_claimed_before_its_first_part(court: Court) -> None:
    early, late = court.claimed(), court.leased(provider=PROVIDERS[1])
    for judge in JUDGES:
        court.ok(sealed(judge), judge)
    court.ok(claim(late, provider=PROVIDERS[1]), PROVIDERS[1])
    assert list(court.ledger.uncovered) == [(late, 0, 1)]
    court.block(1)
    for judge in JUDGES:
        court.ok(opened(judge), judge)
    assert court.lease(early).beacon and not court.lease(late).beacon
    assert court.ledger.beacon_wanted == 2


def test_what_a_part_must_be(court: Court) -> None:
    assert court.refused(sealed(JUDGES[0]), JUDGES[0]) == "beacon_not_wanted"
    court.claimed()
    assert court.refused(sealed(JUDGES[0], 2), JUDGES[0]) == "beacon_not_wanted"
    assert court.refused(sealed(OTHER), OTHER) == "not_signed"
    assert court.refused(sealed(JUDGES[0]), JUDGES[1]) == "not_signed"
    court.ok(sealed(JUDGES[0]), JUDGES[0])
    again = BeaconCommit(1, JUDGES[0].peer, bytes(32))
    assert court.refused(again, JUDGES[0]) == "beacon_sealed"
    court.block(1)
    assert court.refused(opened(JUDGES[0]), JUDGES[0]) == "too_early"
    for judge in JUDGES[1:3]:
        court.ok(sealed(judge), judge)
    assert court.refused(BeaconReveal(1, JUDGES[0].peer, bytes(32)), JUDGES[0]) == "seal_mismatch"
    assert court.refused(opened(JUDGES[3]), JUDGES[3]) == "seal_mismatch"
    court.ok(opened(JUDGES[0]), JUDGES[0])
    assert court.refused(BeaconReveal(1, JUDGES[0].peer, b"x" * 32), JUDGES[0]) == "beacon_not_wanted"


def test_whoever_keeps_its_part_shut_pays_a_percent(court: Court) -> None:
    e = court.claimed()
    for judge in JUDGES:
        court.ok(sealed(judge), judge)
    court.block(1)
    for judge in JUDGES[:3]:
        court.ok(opened(judge), judge)
    owed = -court.ledger.available(*RESERVE)
    court.pass_time(court.time + TIME + 1)
    assert court.ledger.available("S", JUDGES[3].peer) == BOND - BOND // 100
    assert court.ledger.available("S", JUDGES[0].peer) == BOND
    assert -court.ledger.available(*RESERVE) == owed - BOND // 200
    assert (court.beacon().state, court.lease(e).beacon) == ("done", court.beacon().value)


def test_every_further_silence_costs_twice_as_much() -> None:
    """Choosing one beacon of two is cheap once; who goes on choosing has lost most of its stake after the seventh."""
    court, left = Court(replace(CODE, policy=replace(POLICY, beacon_time=SECOND))), BOND
    for number in range(1, beacons.DOUBLINGS + 3):
        court.claimed()
        for judge in JUDGES:
            court.ok(sealed(judge, number), judge)
        court.block(1)
        for judge in JUDGES[:3]:
            court.ok(opened(judge, number), judge)
        court.pass_time(court.time + SECOND + 1)
        left -= left * (10_000 << min(number - 1, beacons.DOUBLINGS)) // PPM
        assert court.ledger.available("S", JUDGES[3].peer) == left
    assert left < BOND // 3
    assert court.ledger.available("S", JUDGES[0].peer) == BOND


@pytest.mark.parametrize("count", [1, 3])
def test_a_beacon_that_fails_leaves_its_claims_to_the_next(court: Court, count: int) -> None:
    """Too few sealed: nobody could open, nobody pays. A quorum sealed and too few opened: those who did not pay."""
    e = court.claimed()
    for judge in JUDGES[:count]:
        court.ok(sealed(judge), judge)
    court.block(1)
    if count == 3:
        court.ok(opened(JUDGES[0]), JUDGES[0])
    court.pass_time(court.time + TIME + 1)
    assert (court.beacon().state, court.lease(e).beacon) == ("failed", b"")
    lost = [BOND - court.ledger.available("S", judge.peer) for judge in JUDGES]
    assert lost == ([0, 0, 0, 0] if count == 1 else [0, BOND // 100, BOND // 100, 0])
    assert court.ledger.beacon_wanted == 2
    assert court.refused(opened(JUDGES[2]), JUDGES[2]) == "beacon_not_wanted"


def test_claims_that_nobody_waits_for_want_no_beacon(court: Court) -> None:
    court.claimed()
    assert court.ledger.beacon_wanted == 1
    court.pass_time(VERDICT_BY + 1)
    assert court.ledger.beacon_wanted is None


def test_old_beacons_are_forgotten(court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacons, "KEPT", 3)
    e = court.claimed()
    for number in range(1, 7):
        court.ok(sealed(JUDGES[0], number), JUDGES[0])
        court.pass_time(court.time + TIME + 1)
    assert sorted(court.ledger.beacons) == [4, 5, 6]
    assert list(court.ledger.uncovered) == [(e, 0, 1)]


@settings(max_examples=60)
@given(keepers=st.permutations(range(4)), openers=st.permutations(range(4)), number=st.integers(0, 2**62))
def test_the_value_depends_on_no_order(keepers: list[int], openers: list[int], number: int) -> None:
    first: dict[bytes, bytes] = {JUDGES[n].peer: bytes([n]) * 32 for n in keepers}
    second: dict[bytes, bytes] = {JUDGES[n].peer: bytes([n]) * 32 for n in openers}
    value = value_of(number, bytes(32), first)
    assert value == value_of(number, bytes(32), second)
    assert value != value_of(number, bytes(32), {**first, JUDGES[0].peer: b"x" * 32})
    assert value != value_of(number, b"x" * 32, first)


def test_an_unused_lease_is_not_covered(court: Court) -> None:
    e = court.leased()
    court.ok(assign(e, 1, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])
    assert court.ledger.beacon_wanted is None
