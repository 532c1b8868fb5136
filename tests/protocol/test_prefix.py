"""The first units of a trace: one root for everybody who did them, signed once, and no other leaf behind it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from protocol.completions import FirstUnits
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.operations import INHERITED_MAX, Inherited
from protocol.prefix import begins, fault_in, first_units, is_prefix_of, root_of, sign_prefix, signed
from protocol.proof import Trace
from protocol.trace import TraceTree, check_trace
from protocol.units import Digest, PeerId
from tests.protocol.words import chain
from tests.verifier.test_trace import trace
from verifier.trace import check_opening

ALICE, BOB = (Identity(bytes([number]) * 32) for number in (1, 2))
ESCROW = b"e" * 32


def joined(first: Trace, units: int, rest: Trace) -> Trace:
    """What comes of going on with other units after the first ones."""
    seam = msgspec.structs.replace(rest.leaves[units], state=first.leaves[units].state)
    seam = msgspec.structs.replace(seam, state_bytes=first.leaves[units].state_bytes)
    leaves = (*first.leaves[:units], seam, *rest.leaves[units + 1 :])
    return Trace(leaves, first.effects[: 2 * units] + rest.effects[2 * units :])


@given(st.data())
def test_the_root_is_that_of_the_first_units_whatever_comes_behind(data: st.DataObject) -> None:
    units = data.draw(st.integers(2, 40))
    done = data.draw(st.integers(1, units - 1))
    mine = trace(units)
    own = Inherited(1, done, root_of(mine, done), bytes(64))
    check_trace(first_units(mine, done), PeerId(bytes(32)))
    longer = trace(data.draw(st.integers(done + 1, 60)), salt=data.draw(st.integers(0, 3)))
    assert begins(joined(mine, done, longer), (own,))
    index = data.draw(st.integers(0, done - 1))
    tree = TraceTree(first_units(mine, done))
    for at in (index, index + 1):
        leaf = check_opening(tree.root, done, tree.open(at))
        assert leaf.state == mine.leaves[at].state


@given(st.data())
def test_another_unit_among_them_has_another_root(data: st.DataObject) -> None:
    units = data.draw(st.integers(2, 40))
    done = data.draw(st.integers(1, units - 1))
    mine, index = trace(units), data.draw(st.integers(0, done))
    fields = ("state", "input", "aux") if index < done else ("state",)
    field = data.draw(st.sampled_from(fields))
    leaves = list(mine.leaves)
    leaves[index] = msgspec.structs.replace(leaves[index], **{field: b"x" * 32})
    assert not begins(Trace(tuple(leaves), mine.effects), (Inherited(1, done, root_of(mine, done), bytes(64)),))
    at = 2 * data.draw(st.integers(0, done - 1))
    effects = mine.effects[:at] + bytes([mine.effects[at] ^ 1]) + mine.effects[at + 1 :]
    assert root_of(Trace(mine.leaves, effects), done) != root_of(mine, done)
    if done > 1:
        assert root_of(mine, done - 1) != root_of(mine, done)


def test_no_trace_begins_with_all_of_itself() -> None:
    mine = trace(3)
    assert not begins(mine, (Inherited(1, 3, root_of(mine, 3), bytes(64)),)), "the last unit is the claim's own"
    for units in (0, 4):
        with pytest.raises(IndexError):
            first_units(mine, units)


def test_a_signature_is_for_one_place_and_one_root() -> None:
    mine = sign_prefix(ALICE, "net", ESCROW, 3, 2, 5, b"r" * 32)
    assert is_prefix_of("net", ALICE.peer, ESCROW, 3, mine)
    assert not is_prefix_of("net", BOB.peer, ESCROW, 3, mine)
    assert not is_prefix_of("other", ALICE.peer, ESCROW, 3, mine)
    assert not is_prefix_of("net", ALICE.peer, b"f" * 32, 3, mine)
    assert not is_prefix_of("net", ALICE.peer, ESCROW, 4, mine)
    for changed in ({"epoch": 3}, {"units": 6}, {"root": b"s" * 32}, {"signature": bytes(64)}):
        assert not is_prefix_of("net", ALICE.peer, ESCROW, 3, msgspec.structs.replace(mine, **changed))


def said(*entries: tuple[int, int, Identity]) -> tuple[Inherited, ...]:
    return chain("net", ESCROW, 0, ((who, epoch, units, bytes([units]) * 32) for epoch, units, who in entries))


@pytest.mark.parametrize(
    ("inherited", "fault"),
    [
        (UNSET, "nobody answers"),
        (said((1, 2, ALICE)), ""),
        (said((1, 2, ALICE), (3, 4, BOB)), ""),
        (said((1, 2, ALICE), (4, 4, BOB)), ""),  # Of lease 4 nothing is known here.
        (said((3, 2, BOB), (1, 4, ALICE)), "do not grow"),
        (said((1, 4, ALICE), (3, 4, BOB)), "do not grow"),
        (said((1, 2, BOB)), "did not sign"),
        (said((1, 2, ALICE), (3, 4, ALICE)), "did not sign"),
        (said((1, 2, ALICE), (3, 4, BOB))[1:], "did not sign"),  # Who was before has been left out.
    ],
)
def test_who_is_known_must_have_signed(inherited: tuple[Inherited, ...], fault: str) -> None:
    former: dict[int, bytes] = {1: ALICE.peer, 3: BOB.peer}
    found = fault_in("net", ESCROW, 0, inherited, former)
    assert (fault in found) if fault else found == ""


def test_where_all_leases_are_known_nobody_goes_on_from_another() -> None:
    former: dict[int, bytes] = {1: ALICE.peer}
    listed = said((1, 2, ALICE), (4, 4, BOB))
    assert fault_in("net", ESCROW, 0, listed[:1], former, is_whole=True) == ""
    assert "lease 4" in fault_in("net", ESCROW, 0, listed, former, is_whole=True)


def test_a_list_grows_until_a_claim_could_not_name_them_all() -> None:
    found: tuple[Inherited, ...] = ()
    for number in range(1, INHERITED_MAX + 1):
        first = FirstUnits(number, Digest(bytes([number]) * 32), 0)
        found = signed(ALICE, "net", (ESCROW, 0, number), first, found)
    assert [item.epoch for item in found] == list(range(1, INHERITED_MAX + 1))
    assert fault_in("net", ESCROW, 0, found, dict.fromkeys(range(99), ALICE.peer)) == ""
    with pytest.raises(Refused) as caught:
        signed(ALICE, "net", (ESCROW, 0, 99), FirstUnits(99, Digest(bytes(32)), 0), found)
    assert caught.value.code == "inherited_full"
