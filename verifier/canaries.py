"""Chunks whose answer is known beforehand, hidden among real ones; and forced errors, which do the same to auditors.

An epoch's canaries are committed as one Merkle root before any is issued and opened afterwards, so that nobody can be
framed by an answer that was thought up later. Answers are kept only under seal. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from protocol import merkle, wire
from protocol.errors import Refused
from protocol.jobspec import JobSpec
from protocol.operations import Hash
from protocol.proof import Numeric
from protocol.units import PPM, Digest, PeerId

FORCED_PPM: Final = 40_000
"""Share of audits whose result is wrong on purpose, ppm: within the 3 to 5 % at which an auditor with fifty fees at
stake is better off looking (research note, 3.3)."""

CANARY_PPM: Final = 30_000
"""Share of chunks that are canaries, ppm."""

DRAWN_MAX: Final = 1 << 16
"""Canaries of one epoch."""

WRONG: Final = "wrong_canary"

Item = TypeVar("Item")
Networks = Callable[[PeerId], frozenset[str]]


def seal_answer(salt: bytes, answer: bytes) -> Digest:
    """All that is kept of an answer."""
    return Digest(hashlib.sha256(b"shoal/1\0canary\0" + salt + answer).digest())


# ── another encoding of the same work ────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Recoding:
    """An order of rows, samples or chunks: item i of the new work is item `order[i]` of the old."""

    order: tuple[int, ...]

    @classmethod
    def drawn(cls, count: int, dice: Random) -> Recoding:
        """A random order of so many items."""
        return cls(tuple(dice.sample(range(count), count)))

    def apply(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """The old items in the new order. Raises `Refused` (`other_length`)."""
        if len(items) != len(self.order):
            raise Refused(f"{len(items)} items, the order is of {len(self.order)}", code="other_length")
        return tuple(items[index] for index in self.order)

    def restore(self, answers: Sequence[Item]) -> tuple[Item, ...]:
        """Answers to the new items, in the order of the old ones. Raises `Refused` (`other_length`)."""
        if len(answers) != len(self.order):
            raise Refused(f"{len(answers)} answers, the order is of {len(self.order)}", code="other_length")
        found = dict(zip(self.order, answers, strict=True))
        return tuple(found[index] for index in range(len(answers)))


def recode_job(spec: JobSpec, recoding: Recoding, name: str) -> JobSpec:
    """The same chunks in another order and under another name: another digest, of the same shape, price and limits.

    Raises `Refused` (`not_recodable`) where the answer depends on more than a chunk's own variables: units draw their
    inputs from the digest of the specification, a reduce step reads outputs in order, a tree may have changed. Programs
    may also read the number of their chunk; so the answers of recoded chunks come from two nodes (`agreed`), unless the
    renter says that they depend on a chunk's variables alone."""
    if spec.units or spec.reduce or spec.is_interactive or spec.mounts or spec.numeric == "D3":
        raise Refused(
            "a chunk of this job has no answer of its own",
            code="not_recodable",
            fix="Take jobs whose chunks depend on their variables and files alone.",
        )
    return msgspec.structs.replace(spec, name=name, chunks=recoding.apply(spec.chunks))


# ── the epoch's list ─────────────────────────────────────────────────────────────────────────────────────────────────
class Canary(Struct, frozen=True, forbid_unknown_fields=True):
    """One chunk that is issued once, and the sealed answer to it."""

    spec: Hash
    """Digest of the recoded specification."""
    chunk: int
    source: Hash
    """Names the work that it was made from: nobody of one operator meets two recodings of it."""
    numeric: Numeric
    runtime: Hash
    """Digest of the runtime that the answer is from; only hosts of the same are asked in D2. Zeros: any."""
    answer: Hash


class Opened(Struct, frozen=True, forbid_unknown_fields=True):
    """What convinces judges after the epoch, or as soon as an answer was wrong."""

    canary: Canary
    index: int
    count: int
    path: tuple[Hash, ...]
    salt: Hash
    right: Annotated[bytes, Meta(max_length=64)]


@dataclass(slots=True)
class Epoch:
    """The canaries of one epoch at who issues them. `root` is published before the first is issued."""

    canaries: tuple[Canary, ...]
    salts: tuple[bytes, ...]
    issued: dict[int, PeerId] = field(default_factory=dict)
    met: dict[bytes, set[str]] = field(default_factory=dict)
    """Source -> networks and peers that have met a recoding of it."""

    @property
    def root(self) -> Digest:
        """The commitment."""
        return merkle.root([wire.encode(item) for item in self.canaries])

    def issue(self, executor: PeerId, networks: frozenset[str], runtime: bytes, dice: Random) -> int | None:
        """A canary for this executor, or None: each is issued once, and no operator meets one source twice."""
        names = networks | {executor.hex()}
        able = [
            index
            for index, item in enumerate(self.canaries)
            if index not in self.issued
            and not names & self.met.get(item.source, set())
            and (item.numeric in ("D0", "D1") or item.runtime == runtime)
        ]
        if not able:
            return None
        index = dice.choice(able)
        self.issued[index] = executor
        self.met.setdefault(self.canaries[index].source, set()).update(names)
        return index

    def judge(self, index: int, output: bytes) -> Literal["right", "wrong_canary"]:
        """Compare an answer with the sealed one."""
        return "right" if seal_answer(self.salts[index], output) == self.canaries[index].answer else WRONG

    def opened(self, index: int, right: bytes) -> Opened:
        """The proof that an answer was fixed beforehand."""
        path = merkle.path([wire.encode(item) for item in self.canaries], index)
        return Opened(self.canaries[index], index, len(self.canaries), path, self.salts[index], right)


def commit(
    work: Sequence[tuple[bytes, int, bytes, Numeric, bytes]], answers: Sequence[bytes], salts: Sequence[bytes]
) -> Epoch:
    """An epoch of (spec, chunk, source, numeric class, runtime) whose answers are known."""
    if not len(work) == len(answers) == len(salts) <= DRAWN_MAX:
        raise Refused(f"{len(work)} canaries, {len(answers)} answers, {len(salts)} salts", code="other_length")
    canaries = tuple(
        Canary(spec, chunk, source, numeric, runtime, seal_answer(salt, answer))
        for (spec, chunk, source, numeric, runtime), answer, salt in zip(work, answers, salts, strict=True)
    )
    return Epoch(canaries, tuple(salts))


def convicts(root: bytes, opened: Opened, spec: bytes, chunk: int, output: bytes) -> str:
    """What an opened canary proves about somebody's output for this chunk: `wrong_canary`, which is fraud in D0 and D1
    and for hosts of its runtime; `right`; or `bad_path` when it was not committed to, and proves nothing."""
    is_committed = merkle.verify(root, wire.encode(opened.canary), opened.index, opened.count, opened.path)
    is_this = (opened.canary.spec, opened.canary.chunk) == (spec, chunk)
    if not is_committed or not is_this or seal_answer(opened.salt, opened.right) != opened.canary.answer:
        return "bad_path"
    return "right" if output == opened.right else WRONG


def agreed(outputs: Mapping[PeerId, bytes], networks: Networks) -> bytes | None:
    """The answer to a chunk that two nodes of different operators computed alike; None when no two did."""
    listed = sorted(outputs.items())
    for place, (one, output) in enumerate(listed):
        for other, same in listed[place + 1 :]:
            if output == same and any(output) and not networks(one) & networks(other):
                return output
    return None


# ── forced errors ────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class ForcedError:
    """A right and a wrong result of a trusted executor, both sealed; the beacon decides which of them is shown."""

    right: Digest
    wrong: Digest
    salt: bytes

    @property
    def sealed(self) -> Digest:
        """The commitment to both, made before the beacon is known."""
        return seal_answer(self.salt, self.right + self.wrong)

    def shown(self, seed: bytes, ppm: int = FORCED_PPM) -> Digest:
        """What is put before the auditor."""
        return self.wrong if is_forced(seed, ppm) else self.right

    def catches(self, seed: bytes, said: bytes, ppm: int = FORCED_PPM) -> bool:
        """Whether an auditor's sealed result shows that it did not compute: it is not the right one."""
        return is_forced(seed, ppm) and said != self.right


def is_forced(seed: bytes, ppm: int = FORCED_PPM) -> bool:
    """Whether the audit drawn by this seed is of a wrong result.

    >>> sum(is_forced(bytes([a, b])) for a in range(100) for b in range(100)) / 10_000
    0.0426
    """
    number = int.from_bytes(hashlib.sha256(b"shoal/1\0forced\0" + seed).digest()[:8], "big")
    return number * PPM >> 64 < ppm
