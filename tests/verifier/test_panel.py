"""Panels: who sits, that nobody can copy, and what counts as a vote."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import operations
from protocol.effects import Send
from protocol.errors import RemoteViolation
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditOpenRequest, AuditRequest, AuditReveal
from protocol.units import CREDIT, Digest, Micros, PeerId
from verifier.panel import OPEN_TIMEOUT, SEATS, Panel, draw
from verifier.sampling import AUDITOR_STAKE_CAP

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


@given(
    seed=st.binary(min_size=32, max_size=32),
    nets=st.lists(st.integers(0, 6), min_size=12, max_size=12),
    seats=st.sampled_from(SEATS),
)
def test_one_of_each_network_and_none_of_the_excluded(seed: bytes, nets: list[int], seats: int) -> None:
    networks = {peer: frozenset({str(net)}) for peer, net in zip(PEERS, nets, strict=False)}
    candidates = dict.fromkeys(PEERS[:12], 1)
    excluded = frozenset(PEERS[:2])
    members = draw(seed, PLACE, seats, candidates, excluded, networks.__getitem__)
    theirs = [next(iter(networks[peer])) for peer in members]
    assert len(set(theirs)) == len(members) <= seats
    assert not {next(iter(networks[peer])) for peer in excluded} & set(theirs)
    free = {net for peer in PEERS[2:12] for net in networks[peer]} - {n for p in excluded for n in networks[p]}
    assert len(members) == min(seats, len(free))
    assert members == draw(seed, PLACE, seats, dict(reversed(candidates.items())), excluded, networks.__getitem__)


def test_seats_go_by_stake_up_to_the_cap() -> None:
    stakes = {PEERS[0]: 10**6 * CREDIT, PEERS[1]: int(AUDITOR_STAKE_CAP), PEERS[2]: AUDITOR_STAKE_CAP // 10}
    found = Counter(draw(bytes([a, b]) * 16, PLACE, 1, stakes, frozenset())[0] for a in range(30) for b in range(30))
    assert abs(found[PEERS[0]] - found[PEERS[1]]) < 120, "more than the cap buys nothing"
    assert found[PEERS[2]] < 80


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
