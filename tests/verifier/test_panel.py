"""Panels: who sits, that nobody can copy, and what counts as a vote."""

from __future__ import annotations

import pytest

from protocol import operations
from protocol.effects import Send, Wake
from protocol.errors import RemoteViolation
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.units import Digest, Micros, PeerId
from verifier.panel import OPEN_TIMEOUT, PATIENCE_MIN, Panel
from verifier.summons import Summons

PLACE = (b"e" * 32, 0, 1)
NOW = Micros(10**15)
PEERS = [PeerId(bytes([n]) * 32) for n in range(1, 30)]
GOOD, BAD = Digest(b"g" * 32), Digest(b"b" * 32)
SALT = b"s" * 32
REQUEST = AuditRequest(*PLACE, spec=ZERO_DIGEST, spec_size=1, outputs=(), sources=(), renter=bytes(32))


def panel(members: int = 3) -> Panel:
    return Panel(REQUEST, tuple(PEERS[:members]), Micros(NOW + 100))


def commit(sitting: Panel, peer: PeerId, output: Digest) -> list[object]:
    sealed = operations.seal(peer, SALT, output)
    return list(sitting.committed(peer, AuditCommit(*PLACE, sealed=sealed), NOW))


def reveal(sitting: Panel, peer: PeerId, output: Digest, reason: str = "ok") -> bool:
    return sitting.revealed(peer, AuditReveal(*PLACE, output=output, salt=SALT, reason=reason))


def test_all_seal_before_anybody_opens() -> None:
    sitting = panel()
    assert {effect.peer for effect in sitting.ask() if isinstance(effect, Send)} == set(PEERS[:3])
    assert commit(sitting, PEERS[0], GOOD) == []
    assert commit(sitting, PEERS[1], GOOD) == []
    assert not reveal(sitting, PEERS[0], GOOD), "too early"
    opened = commit(sitting, PEERS[2], BAD)
    assert {type(effect.message) for effect in opened if isinstance(effect, Send)} == {AuditOpenRequest}
    assert commit(sitting, PEERS[3], GOOD) == [], "a stranger has no seat"
    assert not reveal(sitting, PEERS[0], GOOD)
    assert not reveal(sitting, PEERS[1], GOOD)
    assert reveal(sitting, PEERS[2], BAD)
    assert sitting.majority() == GOOD
    assert not reveal(sitting, PEERS[2], GOOD), "one vote each"


def test_a_copied_or_second_seal_is_a_violation() -> None:
    sitting = panel()
    commit(sitting, PEERS[0], GOOD)
    copied = AuditCommit(*PLACE, sealed=sitting.seals[PEERS[0]])
    with pytest.raises(RemoteViolation) as caught:
        sitting.committed(PEERS[1], copied, NOW)
    assert caught.value.code == "copied"
    with pytest.raises(RemoteViolation) as caught:
        commit(sitting, PEERS[0], BAD)
    assert caught.value.code == "equivocation"


@pytest.mark.parametrize(
    ("output", "reason"), [(BAD, "ok"), (GOOD, "timeout"), (GOOD, "exit: 1"), (GOOD, "inputs: gone")]
)
def test_what_does_not_fit_the_seal_or_failed_is_no_vote(output: Digest, reason: str) -> None:
    sitting = panel(1)
    commit(sitting, PEERS[0], GOOD)
    assert reveal(sitting, PEERS[0], output, reason)
    assert sitting.votes == {PEERS[0]: bytes(32)}
    assert sitting.majority() is None
    assert bool(sitting.blaming) == reason.startswith("inputs")
    assert bool(sitting.broken) == reason.startswith("exit")


def test_late_members_are_left_behind() -> None:
    sitting = panel()
    assert sitting.late(NOW) is None, "nobody has sealed"
    commit(sitting, PEERS[0], GOOD)
    commit(sitting, PEERS[1], GOOD)
    effects = sitting.late(NOW)
    assert effects is not None
    assert {effect.peer for effect in effects if isinstance(effect, Send)} == set(PEERS[:2])
    assert sitting.until == NOW + OPEN_TIMEOUT
    assert sitting.late(NOW) is None
    reveal(sitting, PEERS[0], GOOD)
    assert [effect.peer for effect in sitting.ask() if isinstance(effect, Send)] == [PEERS[1]]
    assert sitting.majority() is None, "one is not two"
    reveal(sitting, PEERS[1], GOOD)
    assert sitting.majority() == GOOD


def test_who_does_not_seal_is_replaced_by_the_next_in_the_order() -> None:
    sitting = Panel.of(
        REQUEST, Summons(tuple(PEERS[:3]), tuple(PEERS[3:6]), 3), NOW, Micros(10**8), Micros(NOW + 10**9)
    )
    commit(sitting, PEERS[1], GOOD)
    effects = sitting.late(NOW) or []
    assert {effect.peer for effect in effects if isinstance(effect, Send)} == {PEERS[0], PEERS[2], PEERS[3], PEERS[4]}
    assert not sitting.is_opening, "nothing is opened before the others have sealed"
    commit(sitting, PEERS[4], GOOD)
    assert commit(sitting, PEERS[0], BAD) == [Wake(sitting.until)], "full: those before them in the order get a while"
    assert sitting.until == NOW + PATIENCE_MIN
    commit(sitting, PEERS[3], GOOD)
    sitting.late(NOW)
    assert sitting.late(NOW) is None, "it is open"
    for peer, output in ((PEERS[4], GOOD), (PEERS[3], GOOD), (PEERS[1], GOOD)):
        assert not reveal(sitting, peer, output)
    assert reveal(sitting, PEERS[0], BAD)
    sitting.close()
    assert sitting.members == (PEERS[0], PEERS[1], PEERS[3]), "the first three in the order, whoever was asked first"
    assert sitting.majority() == GOOD


def test_nobody_else_is_asked_when_the_time_is_over() -> None:
    sitting = Panel.of(REQUEST, Summons(tuple(PEERS[:3]), tuple(PEERS[3:6]), 3), NOW, Micros(10**8), NOW)
    assert sitting.late(NOW) is None
    commit(sitting, PEERS[0], GOOD)
    sitting.late(NOW)
    assert sitting.is_opening


def test_who_could_not_compute_anything_leaves_its_seat_to_the_next() -> None:
    sitting = Panel.of(REQUEST, Summons(tuple(PEERS[:4]), (), 2), NOW, Micros(10**8), Micros(NOW + 10**9))
    for peer in PEERS[:4]:
        commit(sitting, peer, GOOD)
    for peer, reason in zip(PEERS[:4], ("no_runtime", "exit: 1", "ok", "ok"), strict=False):
        reveal(sitting, peer, GOOD, reason)
    sitting.close()
    assert sitting.members == (PEERS[1], PEERS[2])
    assert not sitting.is_refused and sitting.majority() is None, "two seats, one word each way"
