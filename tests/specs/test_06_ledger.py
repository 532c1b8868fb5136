"""specs/06-ledger.md against protocol.accounts, ledger, genesis and validators."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import accounts, genesis, remembered, units, validators
from protocol.accounts import CLASSES, RESERVE, Account, Accounts, Post
from protocol.errors import Refused
from protocol.escrow import SEQUENCED
from protocol.identity import Identity
from protocol.operations import Operation, Transfer
from tests.protocol.ledger_world import FUNDS, PROVIDERS, RENTER, World

SPEC = specs.load("06-ledger")


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (genesis, validators, remembered, units):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


def test_classes_are_those_of_the_code() -> None:
    assert [row["class"] for row in SPEC.table("accounts")] == list(CLASSES)


def test_only_the_class_that_may_is_overdrawn() -> None:
    for row in SPEC.table("accounts"):
        key = (row["class"], accounts.NO_ID)
        other = ("U", b"u" * 32)
        if row["may be overdrawn"] == "yes":
            assert key == RESERVE
            Accounts().apply([Post(key, other, 1)])
        else:
            with pytest.raises(Refused):
                Accounts().apply([Post(key, other, 1)])


def test_moves_are_those_of_the_code() -> None:
    for row in SPEC.table("moves"):
        assert hasattr(accounts, row["move"].partition("(")[0])


@given(counters=st.tuples(*[st.integers(0, 2**62)] * 4))
def test_available_rule(counters: tuple[int, int, int, int]) -> None:
    account = Account()
    account.debits_pending, account.debits_posted, account.credits_pending, account.credits_posted = counters
    assert SPEC.functions["available"](*counters) == account.available


def test_every_operation_is_forgotten_with_its_escrow_or_refused_for_good() -> None:
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(Operation)}
    on_no_escrow = {tag for tag, kind in kinds.items() if kind in SEQUENCED or "escrow" not in kind.__struct_fields__}
    listed = [row["operation"].split(", ") for row in SPEC.table("Operations in order")]
    assert {name for names in listed for name in names} == on_no_escrow
    assert set(listed[0]) == {tag for tag, kind in kinds.items() if kind in SEQUENCED}


@pytest.mark.parametrize("is_owner_signed", [True, False])
@pytest.mark.parametrize("is_next", [True, False])
@pytest.mark.parametrize("is_covered", [True, False])
def test_remembering_rule(is_owner_signed: bool, is_next: bool, is_covered: bool) -> None:
    world = World()
    amount, sequence = (1 if is_covered else FUNDS + 1), (0 if is_next else 1)
    signers: tuple[Identity, ...] = (RENTER,) if is_owner_signed else ()
    outcome = world.do(Transfer(RENTER.peer, 0, sequence, PROVIDERS[0].peer, amount), *signers)
    is_applied = outcome.status == "applied"
    assert is_applied == (is_owner_signed and is_next and is_covered)
    expected = SPEC.functions["is_remembered"](True, is_owner_signed, is_next, is_applied)
    assert (outcome.op in world.ledger.outcomes) == expected
