"""storage/audits.py: challenges that nobody can answer without the shard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.completions import Proved
from protocol.effects import Compute, Prove, Send
from protocol.identity import Identity
from protocol.snapshots import Challenge, ChallengeAnswer, proof_of
from protocol.units import Digest, Micros
from storage.audits import ANSWER_PATIENCE, PIECES, Probes, challenge

ME, HOLDER, OTHER = (Identity(bytes([n]) * 32) for n in range(1, 4))
SHARD = Digest(bytes(range(32)))
NOW = Micros(1_000)


def answer(asked: Challenge, blob: bytes) -> bytes:
    return proof_of(asked, [blob[at : at + asked.span] for at in asked.offsets])


@given(st.integers(1, 2**40), st.integers(0, 2**63))
def test_challenges_fit_the_shard_and_differ(size: int, number: int) -> None:
    asked = challenge(ME, SHARD, size, number)
    assert len(asked.offsets) == PIECES
    assert all(at >= 0 and at + asked.span <= size for at in asked.offsets)
    assert asked == challenge(ME, SHARD, size, number)
    others = [challenge(ME, SHARD, size, number + 1), challenge(OTHER, SHARD, size, number)]
    assert all(one.nonce != asked.nonce for one in others)


@given(st.binary(min_size=1, max_size=200), st.integers(0, 100), st.data())
def test_a_proof_depends_on_every_byte_that_is_asked_for(blob: bytes, number: int, data: st.DataObject) -> None:
    asked = challenge(ME, SHARD, len(blob), number)
    at = data.draw(st.sampled_from(sorted({o + i for o in asked.offsets for i in range(asked.span)})))
    changed = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
    assert answer(asked, blob) != answer(asked, changed)


def test_the_own_copy_tells_what_the_answer_should_be() -> None:
    probes, blob = Probes(ME), bytes(9_000)
    prove, send = probes.ask(HOLDER.peer, SHARD, len(blob), 1, None, NOW)
    assert isinstance(prove, Compute)
    assert isinstance(prove.work, Prove)
    assert isinstance(send, Send)
    asked = send.message
    assert isinstance(asked, Challenge)
    said = ChallengeAnswer(SHARD, asked.nonce, answer(asked, blob))
    assert probes.answered(OTHER.peer, said, NOW) is None  # nobody answers for another
    assert probes.answered(HOLDER.peer, said, Micros(NOW + 5)) is None
    assert probes.proved(Proved(HOLDER.peer, SHARD, asked.nonce, said.proof)) is None
    decided = probes.proved(Proved(ME.peer, SHARD, asked.nonce, said.proof))
    assert decided is not None
    assert (decided.outcome, decided.took) == ("true", 5)
    assert not len(probes)
    assert probes.answered(HOLDER.peer, said, NOW) is None  # each serves once


def test_an_answer_prepared_in_advance_and_a_lie() -> None:
    probes, blob = Probes(ME), bytes(range(250))
    expected = answer(challenge(ME, SHARD, 250, 7), blob)
    (send,) = probes.ask(HOLDER.peer, SHARD, 250, 7, expected, NOW)
    assert isinstance(send, Send)
    assert isinstance(send.message, Challenge)
    decided = probes.answered(HOLDER.peer, ChallengeAnswer(SHARD, send.message.nonce, bytes(32)), NOW)
    assert decided is not None
    assert decided.outcome == "false"


def test_silence_is_told_apart_from_our_own_lateness() -> None:
    probes = Probes(ME)
    probes.ask(HOLDER.peer, SHARD, 100, 1, None, NOW)
    _, send = probes.ask(OTHER.peer, SHARD, 100, 2, None, NOW)
    assert isinstance(send, Send)
    assert isinstance(send.message, Challenge)
    probes.answered(OTHER.peer, ChallengeAnswer(SHARD, send.message.nonce, bytes(32)), NOW)
    assert probes.overdue(Micros(NOW + ANSWER_PATIENCE - 1)) == []
    assert [probe.peer for probe in probes.overdue(Micros(NOW + ANSWER_PATIENCE))] == [HOLDER.peer]
    assert not len(probes)
