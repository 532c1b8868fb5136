"""specs/32-economics.md against protocol.policy, held, holding, penalties, tallies, disputes, exposure and beacons."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

import specs
from protocol import (
    automatic,
    beacon,
    beacons,
    disputes,
    escrow_state,
    exposure,
    inheritance,
    operations,
    penalties,
    policy,
    tallies,
    units,
)
from protocol.accounts import TREASURY
from protocol.errors import Refused
from protocol.escrow_state import ChunkLease, Escrow
from protocol.operations import Claim, Mint, Verdict
from protocol.policy import Policy
from protocol.units import CREDIT, PPM
from tests.protocol.ledger_world import (
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STEWARD,
    VALIDATOR,
    WINDOW,
    OutcomeName,
    World,
    appeal,
    assign,
    claim,
    open_escrow,
    ruling,
    verdict,
    with_policy,
)
from tests.protocol.words import chain

SPEC = specs.load("32-economics")
TEXT = SPEC.path.read_text(encoding="utf-8")
P, Q = PROVIDERS[:2]
money = st.integers(0, 2**50)
shares = st.integers(0, PPM)
OUTCOMES: list[OutcomeName] = ["accept", "wrong", "fraud", "severe", "rejected", "withheld"]


def divide(taken: int, burn: int, has_challenger: bool) -> tuple[int, int, int]:
    """The document's `divide`."""
    found = SPEC.functions["divide"](taken, burn, has_challenger)
    assert isinstance(found, tuple)
    return found[0], found[1], found[2]


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (units, policy, penalties, disputes, exposure, tallies, beacons, automatic, escrow_state, operations):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


def test_policy_is_that_of_the_code() -> None:
    plain = Policy()
    assert {row["field"]: row["default"] for row in SPEC.table("policy")} == {
        name: str(getattr(plain, name)) for name in plain.__struct_fields__
    }


def test_every_finding_is_described() -> None:
    findings = {row["finding"] for row in SPEC.table("held decisions")}
    assert findings == {"missing", *OUTCOMES}
    assert all(item in get_args(get_type_hints(Verdict)["outcome"]) for item in findings)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("collateral", [0, PRICE])
def test_fines(outcome: OutcomeName, collateral: int) -> None:
    world = World(with_policy())
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, collateral=collateral), STEWARD, P)
    world.ok(claim(e), P)
    world.ok(verdict(e, outcome), VALIDATOR)
    world.mature()
    said = SPEC.functions["fine"](outcome, PRICE, collateral, STAKE, 1)
    assert isinstance(said, int)
    assert STAKE - world.ledger.available("S", P.peer) == said
    burnt, _, kept = divide(said, 500_000, False)
    assert world.ledger.available("T", bytes(32)) == kept
    assert burnt + kept == said


@given(times=st.integers(1, 100), stake=money)
def test_withholding(times: int, stake: int) -> None:
    said = SPEC.functions["fine"]("withheld", 0, 0, stake, times)
    assert said == stake * penalties.withheld_ppm(times) // PPM


@given(taken=money, burn=st.integers(policy.BURN_MIN, PPM), has_challenger=st.booleans())
def test_a_slash_is_divided_whole_and_half_of_it_is_gone(taken: int, burn: int, has_challenger: bool) -> None:
    burnt, reward, kept = divide(taken, burn, has_challenger)
    assert burnt + reward + kept == taken
    assert 2 * burnt >= taken >= 2 * reward


@given(amount=money, count=st.integers(1, 9))
def test_auditors_share(amount: int, count: int) -> None:
    peers = [bytes([number]) for number in range(count)]
    parts = dict(penalties.divided(amount, peers))
    assert [parts.get(peer, 0) for peer in peers] == SPEC.functions["auditors_parts"](amount, count)
    assert sum(parts.values()) == amount


@pytest.mark.parametrize("code", [*sorted(tallies.UNHEARD), "not_sampled", "hash_equal"])
def test_a_result_that_nobody_answered_for(code: str) -> None:
    assert (f"`{code}`" in TEXT) == tallies.is_unheard(False, code)
    assert not tallies.is_unheard(True, code)


@given(
    claimed=st.integers(1, 12),
    entries=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12), st.booleans()), max_size=4),
)
def test_words_that_bear_a_claim(claimed: int, entries: list[tuple[int, int, bool]]) -> None:
    world = World(with_policy())
    lease = ChunkLease(0, 9, former=dict.fromkeys(range(1, 5), P.peer))
    escrow = Escrow(b"e" * 32, bytes(16), RENTER.peer, STEWARD.peer, 1, bytes(32), 1)
    said = [(P if good else Q, epoch, done, b"w" * 32) for epoch, done, good in entries]
    words = chain("test", escrow.id, 0, said)
    op = Claim(escrow.id, 0, 9, bytes(32), b"t" * 32, claimed, words or UNSET)
    try:
        is_borne = inheritance.heirloom(world.ledger._state, escrow, lease, op) is not None
    except Refused as error:
        is_borne = False
        assert f"`{error.code}`" in TEXT
    assert is_borne == SPEC.functions["is_borne"](claimed, entries)


@given(price=money, number=st.integers(1, 3), least=st.integers(1, 2**30))
def test_bonds(price: int, number: int, least: int) -> None:
    assert SPEC.functions["bond"](price, number, least) == disputes.bond_min(Policy(bond_min=least), price, number)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("is_refuted", [True, False])
def test_who_may_appeal(outcome: OutcomeName, is_refuted: bool) -> None:
    """Against the rule, for everybody there is; and every refusal has its code in the table."""
    codes = {row["code"] for row in SPEC.table("appeals")}
    for who in (P, Q, RENTER, STEWARD, OTHER):
        world = World(with_policy())
        world.ok(Mint(bytes(32), who.peer, 100 * CREDIT), VALIDATOR)
        e = world.claimed()
        faulted = (who,) if is_refuted else ()
        world.ok(verdict(e, outcome, faulted=faulted), VALIDATOR)
        has_stake = who in PROVIDERS
        said = SPEC.functions["may_appeal"](outcome, who is P, is_refuted, who in (RENTER, STEWARD), has_stake)
        result = world.do(appeal(e, who), who)
        assert (result.status == "applied") == said
        assert said or result.code in codes


@pytest.mark.parametrize("is_traced", [True, False])
def test_rounds(is_traced: bool) -> None:
    world = World(with_policy())
    e = world.claimed(is_traced)
    world.ok(verdict(e), VALIDATOR)
    assert world.held(e).last_round == SPEC.functions["last_round"](is_traced)


@pytest.mark.parametrize(
    "code", ["hash_equal", "not_comparable", "nothing_to_compare", *sorted(disputes.NOTHING_FOUND)]
)
def test_what_a_ruling_does_with_the_bond(code: str) -> None:
    for word in ("upheld", "overturned"):
        world = World(with_policy())
        e = world.claimed()
        world.ok(verdict(e), VALIDATOR)
        world.ok(appeal(e, RENTER), RENTER)
        before = world.ledger.available(*TREASURY)
        finding: OutcomeName = "accept" if word == "upheld" else "rejected"
        world.ok(replace(ruling(e, finding, is_upheld=word == "upheld"), code=code), VALIDATOR)
        is_lost = world.ledger.available(*TREASURY) > before
        assert is_lost == SPEC.functions["is_bond_lost"](word, code)


def test_codes_of_a_court_that_finds_nothing_are_those_of_the_game() -> None:
    tables = [rows for _, rows in specs.load("37-verification-game").tables if "finding" in rows[0]]
    as_before = {row["code"] for rows in tables for row in rows if row["finding"] == "as before"}
    assert as_before == disputes.NOTHING_FOUND | {"not_comparable", "nothing_to_compare"}


@given(price=money, stake=money, collusion=shares)
def test_floor(price: int, stake: int, collusion: int) -> None:
    assert exposure.floor_ppm(price, stake, collusion) == SPEC.functions["floor_ppm"](price, stake, collusion)


@given(price=st.integers(1, 10 * CREDIT), rate=shares, collusion=shares)
def test_exposure(price: int, rate: int, collusion: int) -> None:
    rules = Policy(dispute_window=WINDOW, has_exposure_cap=True, audit_rate=rate, collusion=collusion)
    world = World(with_policy(rules))
    e = world.ok(open_escrow(), RENTER)
    flying = 0
    for chunk in range(2):
        said = SPEC.functions["is_over_exposed"](price, flying, 0, STAKE, rate, collusion)
        result = world.do(assign(e, chunk, price=price, collateral=0), STEWARD, P)
        assert result.code == ("over_exposed" if said else "ok")
        flying += 0 if said else price


KEYS = st.binary(min_size=32, max_size=32)


@given(number=st.integers(0, 2**62), secrets=st.dictionaries(KEYS, st.binary(), max_size=5))
def test_beacons(number: int, secrets: dict[bytes, bytes]) -> None:
    for validator, secret in secrets.items():
        said = SPEC.functions["seal_part"](validator, number, secret)
        assert beacon.seal_part(validator, number, secret) == said
    assert beacon.value_of(number, bytes(32), secrets) == SPEC.functions["value"](number, bytes(32), secrets)


def test_the_longest_dispute_is_shorter_than_unbonding() -> None:
    assert policy.longest_dispute(Policy()) < policy.UNBOND_TIME
