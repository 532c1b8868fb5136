"""The genesis file: round trip, and what is wrong with a bad one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.genesis import SUPPLY_MAX, Genesis, from_json
from protocol.ledger import Ledger
from tests.protocol.ledger_world import GENESIS, PROVIDERS, RENTER, STAKE

KEYS = st.binary(min_size=32, max_size=32)
GENESES = st.builds(
    Genesis,
    st.text(min_size=1, max_size=64),
    st.integers(0, 2**62),
    st.lists(st.tuples(KEYS, st.integers(1, 2**40)), min_size=1, max_size=4, unique_by=lambda item: item[0]).map(tuple),
    st.lists(st.tuples(st.sampled_from(["U", "S"]), KEYS, st.integers(1, 2**50)), max_size=4).map(tuple),
)


@given(genesis=GENESES)
def test_a_genesis_file_is_read_back(genesis: Genesis) -> None:
    again = from_json(genesis.to_json())
    assert again == genesis
    assert again.digest == genesis.digest


def test_balances_are_credited() -> None:
    ledger = Ledger(GENESIS)
    assert ledger.available("S", PROVIDERS[0].peer) == STAKE
    ledger.check()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain", ""),
        ("chain", 5),
        ("time", -1),
        ("validators", []),
        ("validators", [["nonsense", 1]]),
        ("balances", [["X", "12D3KooW", 1]]),
        ("surprise", 1),
    ],
)
def test_a_bad_file_is_refused(field: str, value: object) -> None:
    plain = json.loads(GENESIS.to_json()) | {field: value}
    with pytest.raises(Refused):
        from_json(json.dumps(plain))


def test_too_much_money_and_a_validator_twice_are_refused() -> None:
    rich = Genesis("c", 0, ((RENTER.peer, 1),), (("U", RENTER.peer, SUPPLY_MAX), ("S", RENTER.peer, 1)))
    twice = Genesis("c", 0, ((RENTER.peer, 1), (RENTER.peer, 2)), ())
    for genesis in (rich, twice):
        with pytest.raises(Refused) as caught:
            from_json(genesis.to_json())
        assert caught.value.code == "bad_genesis"


@given(data=st.binary(max_size=100))
def test_bytes_never_crash_the_reader(data: bytes) -> None:
    with pytest.raises(Refused):
        from_json(data)
