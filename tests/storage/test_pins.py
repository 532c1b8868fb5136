"""storage/pins.py: the last user deletes, and nobody deletes what was there before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.effects import Compute, Forget
from protocol.units import Digest
from storage.pins import Pins

A, B = Digest(bytes(32)), Digest(bytes(31) + b"\1")


def test_the_last_one_out_deletes() -> None:
    pins = Pins(lambda digest: digest == A)
    pins.pin(A, "one", is_ours=True)
    pins.pin(A, "two")
    assert pins.unpin([A], "one") == []
    assert pins.unpin([A], "one") == []
    assert pins.unpin([A, B], "two") == [Compute(Forget(A))]
    assert not pins.is_pinned(A)


def test_what_was_here_before_is_left_alone() -> None:
    pins = Pins(lambda digest: digest == A)
    pins.pin(A, "one")
    assert pins.is_foreign(A)
    assert pins.unpin([A], "one") == []
    pins.pin(B, "one")
    assert not pins.is_foreign(B)
    assert pins.unpin([B], "one") == []  # it never came


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=30))
def test_a_blob_is_deleted_exactly_when_nobody_needs_it(done: list[tuple[bool, str]]) -> None:
    pins, users = Pins(lambda _digest: True), set[str]()
    for is_pinned, user in done:
        if is_pinned:
            pins.pin(A, user, is_ours=True)
            users.add(user)
        else:
            had = user in users
            users.discard(user)
            assert bool(pins.unpin([A], user)) == (had and not users)
        assert pins.is_pinned(A) == bool(users)
