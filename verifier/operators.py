"""Inside one unit: its operators one by one, so that a dispute ends at something a referee computes itself.

A program is a list of operators over numbered slots. The state between two operators is a Merkle tree over the digests
of all slots; an operator reads some slots and fills one. Who knows the state before it, the inputs and the path of the
slot to fill, can tell the state behind it without holding anything else. Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import numpy as np
from msgspec import Meta, Struct

from protocol import merkle, wire
from protocol.court_messages import DATA_BYTES_MAX, Hash32, Point
from protocol.errors import Refused, RemoteViolation
from protocol.units import Digest, PeerId
from verifier import tensors
from verifier.tensors import Array

SLOTS_MAX: Final = 1024
"""Tensors of one unit: a path of ten hashes."""

OPERATORS_MAX: Final = 1 << 16
"""Operators of one unit: six rounds of eight parts."""

READS_MAX: Final = 8
"""Tensors that one operator reads."""

ELEMENTS_MAX: Final = 1 << 20
"""Numbers that one operator may make: an outer product of two small inputs must not fill a referee's memory."""

EMPTY: Final = Digest(bytes(32))
"""A slot that nothing has filled."""

FP64_ROUNDOFF: Final = 2.0**-53
FP32_ROUNDOFF: Final = 2.0**-24
"""Unit roundoff u of IEEE 754, round to nearest."""

_VALUE: Final = "value"

Operation = Callable[..., Array]

OPERATIONS: Final[dict[str, Operation]] = {
    "matmul": lambda a, b: a @ b,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "relu": lambda a: np.maximum(a, np.zeros((), a.dtype)),
    "transpose": lambda a: np.ascontiguousarray(a.T),
    "sum0": lambda a: a.sum(axis=0, dtype=a.dtype),
    "half": lambda a: a >> 1 if a.dtype.kind == "i" else a / 2,
}
"""What an operator may do. Bitwise on integers everywhere; on floats within the bound of `gamma`."""


class Operator(Struct, frozen=True):
    """One step: read slots, fill a slot."""

    name: str
    reads: tuple[int, ...]
    writes: int


class Program(Struct, frozen=True):
    """A unit as operators. `inputs` are the slots of the state before it, in order, `outputs` of the state behind."""

    slots: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]

    def check(self) -> None:
        """Raises `Refused` (`bad_program`) unless it can be run at all."""
        places = [*self.inputs, *self.outputs]
        places += [slot for item in self.operators for slot in (*item.reads, item.writes)]
        known = all(item.name in OPERATIONS and len(item.reads) <= READS_MAX for item in self.operators)
        if not (0 < self.slots <= SLOTS_MAX and 0 < len(self.operators) <= OPERATORS_MAX and known):
            raise Refused("a program of unknown operators, or of too many", code="bad_program")
        if not all(0 <= place < self.slots for place in places):
            raise Refused("an operator of a slot that does not exist", code="bad_program")


class Slot(Struct, frozen=True, forbid_unknown_fields=True):
    """One slot of a state and its path."""

    digest: Hash32
    path: Annotated[tuple[Hash32, ...], Meta(max_length=10)]


class Frame(Struct, frozen=True, forbid_unknown_fields=True):
    """How the trace of a unit hangs together with the states around it (`LevelOpened.data`)."""

    inputs: Annotated[tuple[Hash32, ...], Meta(max_length=64)]
    """Digests of the tensors of the state before."""
    outputs: Annotated[tuple[Slot, ...], Meta(max_length=64)]
    """Of the state behind, in the last leaf."""
    first: Point
    last: Point


class Evidence(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator reads (`LeafOpened.data`)."""

    inputs: Annotated[tuple[Annotated[bytes, Meta(max_length=DATA_BYTES_MAX)], ...], Meta(max_length=READS_MAX)]
    """Tensors, each as one canonical safetensors file."""
    paths: Annotated[tuple[Annotated[tuple[Hash32, ...], Meta(max_length=10)], ...], Meta(max_length=READS_MAX)]
    target: Slot
    """The slot that it fills, as it was before."""


_frame_decoder: Final = wire.decoder(Frame)
_evidence_decoder: Final = wire.decoder(Evidence)


def state_digest(digests: Sequence[bytes]) -> Digest:
    """What a leaf of the level above says of a state: the digest of the list of its tensors' digests."""
    return wire.digest(wire.encode(tuple(digests)))


def pack(value: Array) -> bytes:
    """A tensor as bytes: the canonical form, one NaN and no negative zero."""
    return tensors.encode({_VALUE: value})


class Tape:
    """One execution of a program, kept so that every leaf of it can be opened."""

    def __init__(self, program: Program, inputs: Sequence[Array]) -> None:
        program.check()
        self.program = program
        self._blobs: dict[Digest, bytes] = {}
        digests = [self._keep(pack(value)) for value in inputs]
        slots = [EMPTY] * program.slots
        for place, digest in zip(program.inputs, digests, strict=True):
            slots[place] = digest
        self._states = [tuple(slots)]
        for item in program.operators:
            slots[item.writes] = self._keep(pack(self._apply(item, slots)))
            self._states.append(tuple(slots))
        self.tree = merkle.Tree([merkle.root(state) for state in self._states])

    @property
    def leaves(self) -> int:
        """One more than there are operators."""
        return len(self._states)

    @property
    def outcome(self) -> Digest:
        """The digest of the state behind the unit."""
        return state_digest([self._states[-1][slot] for slot in self.program.outputs])

    def point(self, index: int) -> Point:
        """Leaf `index` and its path."""
        return Point(index, merkle.root(self._states[index]), self.tree.path(index))

    def frame(self) -> bytes:
        """`LevelOpened.data`."""
        first, last = self._states[0], self._states[-1]
        tree = merkle.Tree(last)
        outputs = tuple(Slot(last[slot], tree.path(slot)) for slot in self.program.outputs)
        inputs = tuple(first[slot] for slot in self.program.inputs)
        return wire.encode(Frame(inputs, outputs, self.point(0), self.point(self.leaves - 1)))

    def evidence(self, index: int) -> bytes:
        """`LeafOpened.data` for the operator before leaf `index`."""
        item, state = self.program.operators[index - 1], self._states[index - 1]
        tree = merkle.Tree(state)
        inputs = tuple(self._blobs[state[slot]] for slot in item.reads)
        target = Slot(state[item.writes], tree.path(item.writes))
        return wire.encode(Evidence(inputs, tuple(tree.path(slot) for slot in item.reads), target))

    def _apply(self, item: Operator, slots: Sequence[Digest]) -> Array:
        return apply(item, [tensors.decode(self._blobs[slots[slot]])[_VALUE] for slot in item.reads])

    def _keep(self, data: bytes) -> Digest:
        digest = wire.digest(data)
        self._blobs[digest] = data
        return digest


def apply(item: Operator, inputs: Sequence[Array]) -> Array:
    """What one operator makes. Raises `Refused` (`bad_program`) for inputs that it cannot read."""
    try:
        is_product = item.name == "matmul" and all(value.ndim == 2 for value in inputs)
        shapes = [value.shape for value in inputs]
        made = (shapes[0][0], shapes[-1][-1]) if is_product else np.broadcast_shapes(*shapes)
        if math.prod(made) > ELEMENTS_MAX or (item.name == "matmul" and not is_product):
            raise Refused(f"{item.name} would make {made}", code="bad_program")
        with np.errstate(all="ignore"):
            return np.asarray(OPERATIONS[item.name](*inputs))
    except (TypeError, ValueError) as error:
        raise Refused(f"{item.name} cannot read this: {error}", code="bad_program") from error


def check_frame(
    program: Program, trace: Digest, data: bytes, before: bytes, behind: bytes, sender: PeerId
) -> tuple[Digest, Digest]:
    """(first, last) leaf of a unit's trace that starts at the state `before` and ends at `behind`, digests both.

    Raises `RemoteViolation`: `bad_path`, or `bad_descent` when the trace is of other states than the level above."""
    frame = wire.decode(data, _frame_decoder, sender)
    last, count = len(program.operators), len(program.operators) + 1
    for point, index in ((frame.first, 0), (frame.last, last)):
        if point.index != index or not merkle.verify(trace, point.leaf, index, count, point.path):
            raise RemoteViolation(sender, f"leaf {index} is not under this root", code="bad_path")
    slots = [EMPTY] * program.slots
    if len(frame.inputs) != len(program.inputs) or len(frame.outputs) != len(program.outputs):
        raise RemoteViolation(sender, "a state of another number of tensors", code="bad_descent")
    for place, digest in zip(program.inputs, frame.inputs, strict=True):
        slots[place] = Digest(digest)
    for place, slot in zip(program.outputs, frame.outputs, strict=True):
        if not merkle.verify(frame.last.leaf, slot.digest, place, program.slots, slot.path):
            raise RemoteViolation(sender, f"slot {place} is not in the last state", code="bad_path")
    starts = state_digest(frame.inputs) == before and merkle.root(slots) == frame.first.leaf
    if not starts or state_digest([slot.digest for slot in frame.outputs]) != behind:
        raise RemoteViolation(sender, "a trace that hangs between other states", code="bad_descent")
    return Digest(frame.first.leaf), Digest(frame.last.leaf)


def recompute(program: Program, index: int, agreed: bytes, data: bytes, sender: PeerId) -> Digest:
    """The leaf `index` that is right, from the agreed one before it and what the operator reads.

    Raises `RemoteViolation` (`bad_path`, `malformed`) for evidence that does not fit the agreed leaf."""
    item = program.operators[index - 1]
    evidence = wire.decode(data, _evidence_decoder, sender)
    if not len(evidence.inputs) == len(evidence.paths) == len(item.reads):
        raise RemoteViolation(sender, f"{len(evidence.inputs)} inputs for {item.name}", code="bad_path")
    for slot, blob, path in zip(item.reads, evidence.inputs, evidence.paths, strict=True):
        if not merkle.verify(agreed, wire.digest(blob), slot, program.slots, path):
            raise RemoteViolation(sender, f"slot {slot} is not in the agreed state", code="bad_path")
    if not merkle.verify(agreed, evidence.target.digest, item.writes, program.slots, evidence.target.path):
        raise RemoteViolation(sender, f"slot {item.writes} is not in the agreed state", code="bad_path")
    try:
        inputs = [tensors.decode(blob, DATA_BYTES_MAX)[_VALUE] for blob in evidence.inputs]
        made = wire.digest(pack(apply(item, inputs)))
    except (Refused, KeyError) as error:
        raise RemoteViolation(sender, f"inputs that {item.name} cannot read: {error}", code="malformed") from error
    return merkle.replaced(made, item.writes, program.slots, evidence.target.path)


def gamma(terms: int, roundoff: float) -> float:
    """gamma_n = n u / (1 - n u): the relative error of a sum of n products in any order (Higham 2002, eq. 3.4).

    Infinite when n u reaches 1: nothing can be said then."""
    share = terms * roundoff
    return share / (1 - share) if share < 1 else math.inf


def is_within_gamma(left: Array, right: Array, product: Array, roundoff: float) -> bool:
    """Whether `product` may be what floats make of left (m, k) @ right (k, n): |C - AB| <= gamma_k |A||B| elementwise.

    The reference is computed in fp64; its own error is added to the bound."""
    a, b, c = (np.asarray(item, np.float64) for item in (left, right, product))
    if not all(np.isfinite(item).all() for item in (a, b, c)) or c.shape != (a.shape[0], b.shape[1]):
        return False
    bound = (gamma(a.shape[1], roundoff) + gamma(a.shape[1], FP64_ROUNDOFF)) * (np.abs(a) @ np.abs(b))
    return bool((np.abs(c - a @ b) <= bound).all())


Programs = Mapping[bytes, Program]
"""By the digest of the specification whose units they are."""
