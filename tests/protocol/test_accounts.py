"""Linked two-phase moves: all or nothing, each promise once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.accounts import RESERVE, AccountKey, Accounts, Move, Pend, Post, PostPend, VoidPend
from protocol.errors import LocalError, Refused

A: AccountKey = ("U", b"a" * 32)
B: AccountKey = ("U", b"b" * 32)
C: AccountKey = ("S", b"c" * 32)


def funded(amount: int = 100) -> Accounts:
    accounts = Accounts()
    accounts.apply([Post(RESERVE, A, amount)])
    return accounts


def picture(accounts: Accounts) -> dict[AccountKey, bytes]:
    return {key: accounts[key].encode() for key in accounts}


def test_pend_then_post_a_part() -> None:
    accounts = funded()
    accounts.apply([Pend(b"1", A, B, 60)])
    assert (accounts.available(A), accounts.available(B)) == (40, 0)
    accounts.apply([PostPend(b"1", 25)])
    assert (accounts.available(A), accounts.available(B)) == (75, 25)
    accounts.check()


def test_void_gives_all_back() -> None:
    accounts = funded()
    accounts.apply([Pend(b"1", A, B, 60)])
    accounts.apply([VoidPend(b"1")])
    assert (accounts.available(A), accounts.available(B)) == (100, 0)
    accounts.check()


@pytest.mark.parametrize(
    "moves",
    [
        [Post(A, B, 60), Post(A, C, 60)],
        [Post(A, B, 60), Pend(b"2", A, C, 41)],
        [Post(A, B, 10), Post(B, C, 11)],
        [Post(A, B, 10), Post(C, B, 1)],
    ],
)
def test_a_group_that_is_not_covered_does_nothing(moves: list[Move]) -> None:
    accounts = funded()
    before = picture(accounts)
    with pytest.raises(Refused) as caught:
        accounts.apply(moves)
    assert caught.value.code.startswith("insufficient_")
    assert {key: value for key, value in picture(accounts).items() if value != b"0 0 0 0"} == before
    assert not accounts.pending


@pytest.mark.parametrize(
    "moves",
    [
        [Post(A, B, 0)],
        [Post(A, B, -1)],
        [Post(A, A, 1)],
        [Pend(b"1", A, B, 1)],
        [PostPend(b"9", 1)],
        [VoidPend(b"9")],
        [PostPend(b"1", 61)],
        [PostPend(b"1", 0)],
        [PostPend(b"1", 1), VoidPend(b"1")],
        [Pend(b"2", A, B, 1), Pend(b"2", A, B, 1)],
        [Pend(b"2", A, B, 1), VoidPend(b"2")],
    ],
)
def test_a_senseless_group_is_our_own_fault_and_does_nothing(moves: list[Move]) -> None:
    accounts = funded()
    accounts.apply([Pend(b"1", A, B, 60)])
    before = picture(accounts)
    with pytest.raises(LocalError):
        accounts.apply(moves)
    assert picture(accounts) == before


KEYS = st.sampled_from([A, B, C])
IDS = st.sampled_from([b"1", b"2", b"3"])
SMALL = st.integers(-1, 60)
MOVES = st.one_of(
    st.builds(Post, KEYS, KEYS, SMALL),
    st.builds(Pend, IDS, KEYS, KEYS, SMALL),
    st.builds(PostPend, IDS, SMALL),
    st.builds(VoidPend, IDS),
)


@given(groups=st.lists(st.lists(MOVES, max_size=3), max_size=20))
def test_any_groups_keep_the_books(groups: list[list[Move]]) -> None:
    accounts = funded()
    for group in groups:
        before, pending = picture(accounts), dict(accounts.pending)
        try:
            accounts.apply(group)
        except (LocalError, Refused):
            assert {**before, **{key: b"0 0 0 0" for key in accounts if key not in before}} == picture(accounts)
            assert accounts.pending == pending
        accounts.check()
