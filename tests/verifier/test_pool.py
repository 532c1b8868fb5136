"""Operations wait for a block in order of arrival; nobody alone fills the room."""

from __future__ import annotations

import pytest

from protocol import wire
from protocol.errors import Refused
from protocol.identity import Identity
from protocol.ledger import Checked
from protocol.operations import Surrender, op_id, signed_op
from protocol.units import Micros, PeerId
from protocol.validators import ValidatorSet
from verifier import pool
from verifier.pool import Pool

JUDGES = [Identity(bytes([number]) * 32) for number in range(1, 5)]
SET = ValidatorSet("town", tuple((judge.peer, 1) for judge in JUDGES))
FLOODER, OTHER = (Identity(bytes([number]) * 32).peer for number in (8, 9))
AUTHOR = Identity(b"a" * 32)


def operation(number: int, *signers: Identity) -> Checked:
    """One of many, signed by these."""
    tired = Surrender(bytes(32), number, 1, "tired")
    signed = signed_op("town", tired, *signers)
    return Checked(tired, signed, op_id(wire.encode(tired)), frozenset(one.peer for one in signers))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(pool, "POOL_OPS_MAX", 8)
    monkeypatch.setattr(pool, "RELAYED_OPS_MAX", 5)
    monkeypatch.setattr(pool, "SUBMITTER_OPS_MAX", 4)
    monkeypatch.setattr(pool, "WHOLE_OPS_MAX", 20)
    return Pool(SET)


def admit(room: Pool, submitter: PeerId, *checked: Checked) -> None:
    """As the orderer does it."""
    room.check_room(checked, submitter)
    for item in checked:
        room.add(item, Micros(0), submitter)


def refused(room: Pool, submitter: PeerId, *checked: Checked) -> dict[str, int | str]:
    """The numbers of the refusal."""
    with pytest.raises(Refused) as caught:
        admit(room, submitter, *checked)
    assert caught.value.code == "pool_full"
    return dict(caught.value.numbers)


def test_who_hands_in_very_much_leaves_room_for_others(small: Pool) -> None:
    admit(small, FLOODER, *(operation(number, AUTHOR) for number in range(3)))
    assert refused(small, FLOODER, operation(3, AUTHOR), operation(4, AUTHOR)) == {"waiting": 3, "limit": 4}
    admit(small, FLOODER, operation(3, AUTHOR))
    admit(small, OTHER, *(operation(number, AUTHOR) for number in range(4, 8)))
    assert refused(small, JUDGES[0].peer, operation(8, AUTHOR)) == {"waiting": 8, "limit": 8}
    assert [item.checked for item in small.take()] == [operation(number, AUTHOR) for number in range(8)]
    admit(small, FLOODER, *(operation(number, AUTHOR) for number in range(4)))


def test_a_validator_passes_on_more_and_not_everything(small: Pool) -> None:
    relay = JUDGES[0].peer
    admit(small, relay, *(operation(number, AUTHOR) for number in range(5)))
    assert refused(small, relay, operation(5, AUTHOR)) == {"waiting": 5, "limit": 5}
    admit(small, JUDGES[1].peer, operation(5, AUTHOR))


def test_what_a_quorum_signed_waits_beyond_the_others(small: Pool) -> None:
    admit(small, FLOODER, *(operation(number, AUTHOR) for number in range(4)))
    admit(small, OTHER, *(operation(number, AUTHOR) for number in range(4, 8)))
    admit(small, FLOODER, *(operation(number, *JUDGES[:3]) for number in range(8, 18)))
    assert len(small.take()) == 18
    admit(small, FLOODER, *(operation(number, AUTHOR) for number in range(4)))
    assert len(small) == 4


def test_one_old_word_of_a_quorum_with_ever_new_signatures_beside_it_does_not_fill_memory(small: Pool) -> None:
    strangers = [Identity(bytes([number]) * 32) for number in range(20, 41)]
    copies = [operation(1, *JUDGES[:3], stranger) for stranger in strangers]
    assert len({copy.op_id for copy in copies}) == 1 and len({copy.signed for copy in copies}) == 21
    for copy in copies[:20]:
        admit(small, FLOODER, copy)
    assert refused(small, FLOODER, copies[20]) == {"waiting": 20, "limit": 20}
    assert len(small) == 20
