"""Sums by party: promises do not count, and the lines of a whole job add up to zero."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger_view import book_of
from gateway.schemas import Money, MoneyLine

KINDS = st.sampled_from(["fund", "reserve", "collateral", "pay", "commission", "slash", "release", "return", "refund"])
NAMES = st.sampled_from(["free a", "free b", "escrow e", "fees", "treasury"])
LINES = st.lists(st.builds(MoneyLine, source=NAMES, target=NAMES, amount=st.integers(1, 2**62), kind=KINDS))


@given(LINES)
def test_lines_with_two_ends_add_up_to_zero(lines: list[MoneyLine]) -> None:
    assert book_of(Money(lines=lines)).net == 0


def test_a_promise_that_is_kept_counts_once() -> None:
    lines = [
        MoneyLine(source="free renter", target="escrow e", amount=100, kind="fund"),
        MoneyLine(source="escrow e", target="free peer", amount=90, kind="reserve"),
        MoneyLine(source="stake peer", target="treasury", amount=10, kind="collateral"),
        MoneyLine(source="escrow e", target="free peer", amount=90, kind="pay"),
        MoneyLine(source="treasury", target="stake peer", amount=10, kind="return"),
        MoneyLine(source="escrow e", target="free renter", amount=10, kind="refund"),
    ]
    net = {party.name: party.net for party in book_of(Money(lines=lines)).parties}
    assert net == {"escrow e": 0, "free peer": 90, "free renter": -90}


def test_a_line_with_one_end_shows() -> None:
    assert book_of(Money(lines=[MoneyLine(source="a", amount=5, kind="pay")])).net == -5
