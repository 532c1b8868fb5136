"""Inside one unit: a referee decides about one operator, from the leaf before it and what it reads."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.units import Digest, PeerId
from tests.verifier.duel import FIRST, SECOND_PEER, Duel
from verifier import operators
from verifier.advocate import Held, claim_of
from verifier.game import Dispute
from verifier.operators import FP32_ROUNDOFF, Evidence, Frame, Operator, Program, Tape
from verifier.referee import Inside
from verifier.tensors import Array

SOMEBODY = PeerId(b"p" * 32)

MLP = Program(
    slots=8,
    inputs=(0, 1, 2),
    outputs=(1, 2),
    operators=(
        Operator("matmul", (0, 1), 3),
        Operator("relu", (3,), 4),
        Operator("matmul", (4, 2), 5),
        Operator("sum0", (5,), 6),
        Operator("half", (6,), 6),
        Operator("add", (2, 6), 2),
        Operator("transpose", (0,), 7),
        Operator("matmul", (7, 4), 3),
        Operator("sub", (1, 3), 1),
    ),
)
"""One step of a small network in integers: it ends where it began, with its two matrices changed."""


def tensors(seed: int) -> list[Array]:
    dice = np.random.default_rng(seed)
    shapes = ((6, 5), (5, 7), (7, 4))
    return [dice.integers(-9, 9, shape, dtype=np.int32) for shape in shapes]


class Cheat(Tape):
    """Does one operator wrong, and everything after it from there."""

    def __init__(self, at: int, inputs: list[Array]) -> None:
        self._at, self._done = at, 0
        super().__init__(MLP, inputs)

    def _apply(self, item: Operator, slots: list[bytes]) -> Array:  # type: ignore[override]
        made = super()._apply(item, slots)  # type: ignore[arg-type]
        self._done += 1
        return made + 1 if self._done == self._at else made


def recorded(leaves: tuple[bytes, ...], tape: Tape | None) -> Held:
    """A claim whose units went as this tape."""
    claim = claim_of(leaves)
    return Held(claim.leaves, claim.tree, lambda unit: tape)


def inside(game: Digest, dispute: Dispute) -> Inside:
    return Inside(dispute.index - 1, MLP, dispute.agreed or b"", dispute.leaves)


def steps(tape: Tape, before: bytes) -> tuple[bytes, ...]:
    """A history of four units whose third is recorded: leaves are digests of states."""
    return (b"a" * 32, b"b" * 32, before, tape.outcome)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(1, 9), seed=st.integers(0, 1000), loss=st.sampled_from((0.0, 0.2)), honest_first=st.booleans())
def test_a_dispute_ends_at_one_operator_and_the_honest_claim_wins(
    at: int, seed: int, loss: float, honest_first: bool
) -> None:
    inputs = tensors(seed)
    good, bad = Tape(MLP, inputs), Cheat(at, inputs)
    if good.outcome == bad.outcome:
        return  # What was done wrong did not reach the state behind the unit: the two claims say the same.
    before = operators.state_digest([wire.digest(operators.pack(value)) for value in inputs])
    pair = (good, bad) if honest_first else (bad, good)
    held = [recorded(steps(tape, before), tape) for tape in pair]
    game = Duel(
        held[0],
        held[1],
        steps(good, before),
        seed=seed,
        loss=loss,
        descend=inside,
    )
    ended = game.play()
    assert (ended.winner, ended.code) == (held[0 if honest_first else 1].tree.root, "wrong_step")


def test_who_does_not_say_what_is_inside_loses_by_silence() -> None:
    inputs = tensors(1)
    good, bad = Tape(MLP, inputs), Cheat(9, inputs)
    before = operators.state_digest([wire.digest(operators.pack(value)) for value in inputs])
    honest = recorded(steps(good, before), good)
    game = Duel(
        honest,
        claim_of(steps(bad, before)),
        steps(good, before),
        descend=inside,
    )
    ended = game.play()
    assert (ended.winner, ended.code) == (honest.tree.root, "silent")


def test_a_trace_that_hangs_elsewhere_loses() -> None:
    inputs = tensors(1)
    good, bad, other = Tape(MLP, inputs), Cheat(9, inputs), Tape(MLP, tensors(2))
    before = operators.state_digest([wire.digest(operators.pack(value)) for value in inputs])
    held = [recorded(steps(good, before), good), recorded(steps(bad, before), other)]
    game = Duel(
        held[0],
        held[1],
        steps(good, before),
        descend=inside,
    )
    ended = game.play()
    assert (ended.winner, ended.code) == (held[0].tree.root, "bad_descent")
    with pytest.raises(RemoteViolation) as caught:
        operators.check_frame(MLP, other.tree.root, other.frame(), before, other.outcome, SOMEBODY)
    assert caught.value.code == "bad_descent"


def test_data_that_nobody_delivers_is_withheld() -> None:
    inputs = tensors(1)

    class Lost(Tape):
        """One whose inputs are gone."""

        def evidence(self, index: int) -> bytes:
            return b"nothing"

    class LostCheat(Lost, Cheat):
        pass

    tapes = (Lost(MLP, inputs), LostCheat(9, inputs))
    before = operators.state_digest([wire.digest(operators.pack(value)) for value in inputs])
    held = [recorded(steps(tape, before), tape) for tape in tapes]

    class Ignoring(Duel):
        def deliver(self, number: int, sender: PeerId, to: PeerId, message: object) -> None:
            try:
                super().deliver(number, sender, to, message)  # type: ignore[arg-type]
            except RemoteViolation as error:
                assert error.peer in (FIRST, SECOND_PEER)
                assert error.code == "malformed"

    game = Ignoring(
        held[0],
        held[1],
        steps(tapes[0], before),
        descend=inside,
    )
    ended = game.play()
    assert (ended.winner, ended.code) == (None, "withheld")


@given(index=st.integers(1, 9), seed=st.integers(0, 100))
def test_the_referee_computes_what_the_executor_did(index: int, seed: int) -> None:
    tape = Tape(MLP, tensors(seed))
    before, behind = tape.point(index - 1), tape.point(index)
    assert operators.recompute(MLP, index, before.leaf, tape.evidence(index), SOMEBODY) == behind.leaf
    other = Tape(MLP, tensors(seed + 1))
    with pytest.raises(RemoteViolation) as caught:
        operators.recompute(MLP, index, before.leaf, other.evidence(index), SOMEBODY)
    assert caught.value.code == "bad_path"


def test_evidence_that_is_malformed_or_of_another_slot() -> None:
    tape = Tape(MLP, tensors(1))
    before = tape.point(0).leaf
    evidence = msgspec.msgpack.decode(tape.evidence(1), type=Evidence)
    spoilt = [
        msgspec.structs.replace(evidence, inputs=evidence.inputs[:1]),
        msgspec.structs.replace(evidence, inputs=evidence.inputs[::-1]),
        msgspec.structs.replace(evidence, target=operators.Slot(b"x" * 32, evidence.target.path)),
    ]
    for item in spoilt:
        with pytest.raises(RemoteViolation, match=r"inputs|slot"):
            operators.recompute(MLP, 1, before, wire.encode(item), SOMEBODY)
    with pytest.raises(RemoteViolation) as caught:
        operators.recompute(MLP, 1, before, b"\xc1", SOMEBODY)
    assert caught.value.code == "malformed"
    frame = msgspec.msgpack.decode(tape.frame(), type=Frame)
    for wrong in (
        msgspec.structs.replace(frame, first=frame.last),
        msgspec.structs.replace(frame, outputs=frame.outputs[::-1]),
        msgspec.structs.replace(frame, inputs=frame.inputs[:2]),
    ):
        with pytest.raises(RemoteViolation) as caught:
            operators.check_frame(
                MLP, tape.tree.root, wire.encode(wrong), operators.state_digest(frame.inputs), tape.outcome, SOMEBODY
            )
        assert caught.value.code in ("bad_path", "bad_descent")


def test_programs_that_cannot_be_run() -> None:
    for wrong in (
        msgspec.structs.replace(MLP, slots=2),
        msgspec.structs.replace(MLP, operators=()),
        msgspec.structs.replace(MLP, operators=(Operator("exec", (0,), 1),)),
    ):
        with pytest.raises(Refused) as caught:
            Tape(wrong, tensors(1))
        assert caught.value.code == "bad_program"
    long = np.ones((4000, 1), np.int8)
    for item, inputs in (
        (Operator("matmul", (0, 1), 2), [long, long.T.copy()]),
        (Operator("add", (0, 1), 2), [long, long.T.copy()]),
        (Operator("matmul", (0, 1), 2), [long, long]),
        (Operator("matmul", (0, 1), 2), [long[:, 0], long[:, 0]]),
    ):
        with pytest.raises(Refused):
            operators.apply(item, inputs)


def test_floats_within_what_any_order_of_sums_can_do_are_accepted() -> None:
    dice = np.random.default_rng(7)
    left, right = dice.standard_normal((40, 300)), dice.standard_normal((300, 30))
    a, b = left.astype(np.float32), right.astype(np.float32)
    honest = a @ b
    order = dice.permutation(300)
    reordered = a[:, order] @ b[order]
    assert (honest != reordered).any(), "two honest machines do differ"
    for product in (honest, reordered):
        assert operators.is_within_gamma(a, b, product, FP32_ROUNDOFF)
    cheaper = (a.astype(np.float16) @ b.astype(np.float16)).astype(np.float32)
    one = honest.copy()
    one[3, 4] += 1e-2
    bad = honest.copy()
    bad[0, 0] = np.nan
    for product in (cheaper, one, bad, honest[:, :-1]):
        assert not operators.is_within_gamma(a, b, product, FP32_ROUNDOFF)
    assert operators.gamma(1 << 24, FP32_ROUNDOFF) == np.inf


@settings(max_examples=200, deadline=None)
@given(index=st.integers(1, 9), place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_spoilt_evidence_is_a_violation_or_changes_nothing(index: int, place: int, byte: int, cut: bool) -> None:
    tape = Tape(MLP, tensors(1))
    before, data = tape.point(index - 1).leaf, bytearray(tape.evidence(index))
    data[place % len(data)] = byte
    spoilt = bytes(data[: place % len(data)]) if cut else bytes(data)
    try:
        found = operators.recompute(MLP, index, before, spoilt, SOMEBODY)
    except RemoteViolation as error:
        assert error.code in ("bad_path", "malformed", "not_canonical", "over_limit")
    else:
        assert found == tape.point(index).leaf


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), junk=st.binary(max_size=80))
def test_spoilt_frames_are_violations(place: int, byte: int, junk: bytes) -> None:
    tape = Tape(MLP, tensors(1))
    data = bytearray(tape.frame())
    before = operators.state_digest([wire.digest(operators.pack(value)) for value in tensors(1)])
    right = operators.check_frame(MLP, tape.tree.root, bytes(data), before, tape.outcome, SOMEBODY)
    data[place % len(data)] = byte
    for spoilt in (bytes(data), junk):
        try:
            assert operators.check_frame(MLP, tape.tree.root, spoilt, before, tape.outcome, SOMEBODY) == right
        except RemoteViolation as error:
            assert error.code in ("bad_path", "bad_descent", "malformed", "not_canonical")
