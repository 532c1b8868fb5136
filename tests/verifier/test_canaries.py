"""Canaries: sealed, issued once, hidden by another encoding, and convincing to third parties only when committed to."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from protocol import wire
from protocol.errors import Refused
from protocol.jobspec import Chunk, JobSpec
from protocol.proof import Proof
from protocol.units import Digest, PeerId
from verifier.canaries import Epoch, ForcedError, Recoding, agreed, commit, convicts, is_forced, recode_job

A, B, C, D = (PeerId(bytes([letter]) * 32) for letter in b"abcd")
RUNTIME = b"r" * 32
ANSWERS = (b"1" * 32, b"2" * 32, b"3" * 32)
SALTS = (b"x" * 32, b"y" * 32, b"z" * 32)
JOB = JobSpec("job", "wasm", ("true",), tuple(Chunk((("N", str(n)),)) for n in range(5)), numeric="D0")


def epoch() -> Epoch:
    work = [(bytes([n]) * 32, n, b"source%026d" % (n // 2), "D0", bytes(32)) for n in range(3)]
    return commit(work, ANSWERS, SALTS)  # type: ignore[arg-type]


@given(items=st.lists(st.integers(), max_size=30), seed=st.integers(0, 100))
def test_answers_find_their_way_back(items: list[int], seed: int) -> None:
    recoding = Recoding.drawn(len(items), Random(seed))
    shuffled = recoding.apply(items)
    assert sorted(shuffled) == sorted(items)
    assert recoding.restore([item * item for item in shuffled]) == tuple(item * item for item in items)
    for wrong in (recoding.apply, recoding.restore):
        with pytest.raises(Refused):
            wrong([*items, 0])


def test_a_recoded_job_is_the_same_work_under_another_digest() -> None:
    seen = {wire.digest(wire.encode(JOB))}
    for seed in range(20):
        recoded = recode_job(JOB, Recoding.drawn(5, Random(seed)), f"job-{seed}")
        assert sorted(chunk.env for chunk in recoded.chunks) == sorted(chunk.env for chunk in JOB.chunks)
        assert len(wire.encode(recoded)) - len(recoded.name) == len(wire.encode(JOB)) - len(JOB.name)
        seen.add(wire.digest(wire.encode(recoded)))
    assert len(seen) == 21


@pytest.mark.parametrize(
    "change", [{"reduce": ("true",)}, {"proof": Proof("deterministic", 3)}, {"numeric": "D3"}, {"shell": True}]
)
def test_work_without_an_answer_of_its_own_is_no_source(change: dict[str, object]) -> None:
    job = msgspec.structs.replace(JOB, **change)
    assert JOB.proof is UNSET
    with pytest.raises(Refused) as caught:
        recode_job(job, Recoding(tuple(range(5))), "other")
    assert caught.value.code == "not_recodable"


def test_each_is_issued_once_and_no_operator_meets_a_source_twice() -> None:
    known, dice = epoch(), Random(1)
    first = known.issue(A, frozenset({"net 1"}), RUNTIME, dice)
    second = known.issue(B, frozenset({"net 1"}), RUNTIME, dice)
    assert first is not None and second is not None
    assert known.canaries[first].source != known.canaries[second].source, "one operator, two sources"
    third = known.issue(C, frozenset({"net 2"}), RUNTIME, dice)
    assert third not in (None, first, second)
    assert known.issue(D, frozenset(), RUNTIME, dice) is None, "all are used up"
    assert known.issue(A, frozenset(), RUNTIME, dice) is None


def test_a_canary_of_a_class_goes_to_that_class() -> None:
    known = commit([(b"s" * 32, 0, b"o" * 32, "D2", RUNTIME)], ANSWERS[:1], SALTS[:1])
    assert known.issue(A, frozenset(), b"q" * 32, Random(1)) is None
    assert known.issue(A, frozenset(), RUNTIME, Random(1)) == 0


def test_wrong_answers_convict_and_only_with_the_commitment() -> None:
    known = epoch()
    assert [known.judge(1, answer) for answer in (ANSWERS[1], ANSWERS[0])] == ["right", "wrong_canary"]
    opened = known.opened(1, ANSWERS[1])
    spec = known.canaries[1].spec
    assert convicts(known.root, opened, spec, 1, ANSWERS[0]) == "wrong_canary"
    assert convicts(known.root, opened, spec, 1, ANSWERS[1]) == "right"
    later = commit([(spec, 1, b"s" * 32, "D0", bytes(32))], [ANSWERS[0]], SALTS[:1]).opened(0, ANSWERS[0])
    for bad in (
        (known.root, later, spec, 1),
        (known.root, msgspec.structs.replace(opened, right=ANSWERS[2]), spec, 1),
        (known.root, msgspec.structs.replace(opened, index=2), spec, 1),
        (known.root, opened, spec, 2),
        (known.root, opened, b"t" * 32, 1),
    ):
        assert convicts(*bad, ANSWERS[2]) == "bad_path", "nobody is framed by an answer that was thought up later"
    with pytest.raises(Refused):
        commit([], ANSWERS, SALTS)


def test_answers_are_not_in_what_is_kept() -> None:
    kept = wire.encode(epoch().canaries)
    assert not any(answer in kept for answer in ANSWERS)
    assert not any(salt in kept for salt in SALTS)


def test_an_answer_that_two_operators_agree_on() -> None:
    nets = {A: frozenset({"1"}), B: frozenset({"1"}), C: frozenset({"2"}), D: frozenset[str]()}
    assert agreed({A: ANSWERS[0], C: ANSWERS[0]}, nets.__getitem__) == ANSWERS[0]
    assert agreed({A: ANSWERS[0], B: ANSWERS[0]}, nets.__getitem__) is None
    assert agreed({A: ANSWERS[0], C: ANSWERS[1]}, nets.__getitem__) is None
    assert agreed({A: bytes(32), C: bytes(32)}, nets.__getitem__) is None


def test_forced_errors_catch_who_agrees_without_looking() -> None:
    error = ForcedError(Digest(ANSWERS[0]), Digest(ANSWERS[1]), SALTS[0])
    seeds = [b"seed %d" % n for n in range(5000)]
    forced = [seed for seed in seeds if is_forced(seed)]
    assert 0.03 < len(forced) / len(seeds) < 0.05
    assert all(error.shown(seed) == (ANSWERS[1] if is_forced(seed) else ANSWERS[0]) for seed in seeds[:200])
    assert all(error.catches(seed, ANSWERS[1]) for seed in forced)
    assert not any(error.catches(seed, ANSWERS[0]) for seed in seeds)
    other = ForcedError(error.wrong, error.right, SALTS[0])
    assert error.sealed != other.sealed
