"""Verdicts wait for a quorum of judges; everything else passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.identity import Identity
from protocol.ledger import Checked
from protocol.operations import Absence, Ruling, SignedOp, Surrender, Verdict, op_id, sign_op
from protocol.validators import ValidatorSet
from verifier import verdicts
from verifier.verdicts import Verdicts

JUDGES = [Identity(bytes([number]) * 32) for number in range(1, 5)]
STRANGER = Identity(b"s" * 32)
SET = ValidatorSet("town", tuple((judge.peer, 1) for judge in JUDGES))


def verdict(*signers: Identity, outcome: str = "accept", chunk: int = 0) -> Checked:
    """A verdict with these signatures."""
    operation = Verdict(bytes(32), chunk, 1, outcome, False, JUDGES[0].peer, bytes(32), bytes(32), "not_sampled")  # type: ignore[arg-type]
    body = wire.encode(operation)
    signed = SignedOp(body, tuple(sign_op(one, "town", body) for one in signers))
    return Checked(operation, signed, op_id(body), frozenset(one.peer for one in signers))


@given(st.lists(st.sampled_from(JUDGES), max_size=12))
def test_a_verdict_passes_once_with_the_signatures_of_a_quorum(order: list[Identity]) -> None:
    gathering, seen = Verdicts(SET), set[bytes]()
    for judge in order:
        seen.add(judge.peer)
        whole = gathering.gather(verdict(judge))
        if not SET.is_quorum(seen):
            assert whole is None
            continue
        assert whole is not None and whole.signers == seen
        assert {item.signer for item in whole.signed.signatures} == seen
        assert whole.op_id == verdict(judge).op_id, "more signatures do not make another operation"
        seen.clear()
    assert len(gathering) == bool(seen)


def test_judges_who_disagree_make_no_quorum() -> None:
    gathering = Verdicts(SET)
    assert gathering.gather(verdict(JUDGES[0])) is None
    assert gathering.gather(verdict(JUDGES[1])) is None
    assert gathering.gather(verdict(JUDGES[2], outcome="wrong")) is None
    whole = gathering.gather(verdict(JUDGES[3]))
    assert whole is not None and JUDGES[2].peer not in whole.signers


def test_what_is_no_verdict_or_nobodys_to_sign_passes_as_it_is() -> None:
    tired = Surrender(bytes(32), 0, 1, "tired")
    body = wire.encode(tired)
    other = Checked(tired, SignedOp(body, (sign_op(STRANGER, "town", body),)), op_id(body), frozenset())
    assert Verdicts(SET).gather(other) is other
    for checked in (verdict(STRANGER), verdict(STRANGER, JUDGES[0]), verdict(*JUDGES[:3])):
        assert Verdicts(SET).gather(checked) is checked
    alone = ValidatorSet("town", ((JUDGES[0].peer, 1),))
    assert Verdicts(alone).gather(only := verdict(JUDGES[0])) is only


@given(st.lists(st.tuples(st.sampled_from([*JUDGES[1:], None]), st.integers(0, 5)), max_size=60))
def test_a_flood_of_one_judge_pushes_out_its_own_words_only(words: list[tuple[Identity | None, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "WAITING_MAX", 24)
        gathering = Verdicts(SET)
        signed: dict[int, set[bytes]] = {}
        for number, (judge, chunk) in enumerate(words):
            for flood in range(4):
                assert gathering.gather(verdict(JUDGES[0], chunk=100 + 4 * number + flood)) is None
            if judge is not None:
                whole = gathering.gather(verdict(judge, chunk=chunk))
                who = signed.setdefault(chunk, set())
                who.add(judge.peer)
                assert (whole is not None) == (len(who) == 3), "the words of those who signed six at most all count"
                if whole is not None:
                    del signed[chunk]
            assert len(gathering) <= 24
        assert {chunk for chunk in signed if verdict(JUDGES[0], chunk=chunk).op_id in gathering._waiting} == set(signed)


def test_who_signed_most_loses_its_oldest() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdicts, "WAITING_MAX", 4)
        gathering = Verdicts(SET)
        for chunk in range(3):
            gathering.gather(verdict(JUDGES[0], chunk=chunk))
        gathering.gather(verdict(JUDGES[1], chunk=0))
        gathering.gather(verdict(JUDGES[1], chunk=3))
        gathering.gather(verdict(JUDGES[0], chunk=4))
        assert len(gathering) == 4
        assert gathering.gather(verdict(JUDGES[2], chunk=0)) is None, "of the oldest, the other's word alone was left"
        assert gathering.gather(verdict(JUDGES[1], JUDGES[2], chunk=1)) is None, "and the next oldest is gone"
        assert gathering.gather(verdict(JUDGES[1], JUDGES[2], chunk=4)) is not None, "the newest is not"


def test_rulings_and_absences_are_gathered_too() -> None:
    ruling = Ruling(bytes(32), 0, 1, 1, "upheld", "accept", (), bytes(32), "hash_equal")
    for operation in (ruling, Absence(STRANGER.peer, 20_000)):
        gathering, body = Verdicts(SET), wire.encode(operation)
        found = []
        for judge in JUDGES[:3]:
            signed = SignedOp(body, (sign_op(judge, "town", body),))
            found.append(gathering.gather(Checked(operation, signed, op_id(body), frozenset([judge.peer]))))
        assert found[:2] == [None, None]
        assert found[2] is not None and len(found[2].signers) == 3
