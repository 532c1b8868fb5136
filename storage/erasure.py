"""Reed–Solomon: k data shards become n, of which any k give back the data. Spec: specs/26-shards.md.

Systematic over a Cauchy matrix that we compute ourselves, as ISA-L's `gf_gen_cauchy1_matrix` does, so whatever does the
arithmetic gives the same bytes. Arithmetic comes in: NumPy's is here, the processor's own is `node/isal.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol

from protocol.errors import LocalError, Unavailable
from protocol.snapshots import SHARDS_MAX
from storage import galois
from storage.galois import Matrix


@dataclass(frozen=True, slots=True)
class Code:
    """n shards, any k of which suffice. k = 1: every shard is the whole."""

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.n <= SHARDS_MAX:
            raise LocalError(f"no code has k = {self.k}, n = {self.n}", code="bad_code")

    @property
    def kind(self) -> Literal["rs", "copy"]:
        return "copy" if self.k == 1 else "rs"

    def is_as_strong_as(self, other: Code) -> bool:
        """Whether it is of the same kind and has at least as many spare shards for each that is needed."""
        return self.kind == other.kind and (self.n - self.k) * other.k >= (other.n - other.k) * self.k


COPIES: Final = Code(1, 3)
"""Where there are fewer than six failure domains."""

ROLLING: Final = Code(8, 14)
"""A snapshot that the next one replaces within minutes."""

ANCHOR: Final = Code(8, 20)
"""A snapshot that stays."""

ANCHOR_WIDE: Final = Code(16, 32)
"""The same among forty peers or more."""


class Product(Protocol):
    """Arithmetic: a matrix over GF(2^8) times one shard per column, into one buffer per row."""

    def __call__(self, matrix: Matrix, data: Sequence[memoryview], into: Sequence[memoryview]) -> None: ...


class ErasureCode(Protocol):
    """What makes shards, and gives back what is missing."""

    @property
    def name(self) -> str:
        """What does the arithmetic, for people."""
        ...

    def encode(self, data: Sequence[memoryview], n: int) -> list[bytearray]:
        """The n - k parity shards of k data shards of one length."""
        ...

    def encode_into(self, data: Sequence[memoryview], parity: Sequence[memoryview]) -> None:
        """The same into buffers of the caller."""
        ...

    def decode(self, shards: Mapping[int, memoryview], k: int, n: int, wanted: Sequence[int]) -> list[bytearray]:
        """The wanted shards, by index, from any k others. Unavailable (`too_few_shards`) with fewer."""
        ...

    def decode_into(
        self, shards: Mapping[int, memoryview], code: Code, wanted: Sequence[int], into: Sequence[memoryview]
    ) -> None:
        """The same into buffers of the caller."""
        ...


class ReedSolomon:
    """The code, over whatever arithmetic it is given."""

    def __init__(self, product: Product, name: str) -> None:
        self._product = product
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def encode(self, data: Sequence[memoryview], n: int) -> list[bytearray]:
        parity = [bytearray(len(data[0])) for _ in range(n - len(data))]
        self.encode_into(data, [memoryview(shard) for shard in parity])
        return parity

    def encode_into(self, data: Sequence[memoryview], parity: Sequence[memoryview]) -> None:
        _check_lengths(data, parity)
        if parity:
            k = len(data)
            self._product(generator(Code(k, k + len(parity)))[k:], data, parity)

    def decode(self, shards: Mapping[int, memoryview], k: int, n: int, wanted: Sequence[int]) -> list[bytearray]:
        size = len(next(iter(shards.values()))) if shards else 0
        found = [bytearray(size) for _ in wanted]
        self.decode_into(shards, Code(k, n), wanted, [memoryview(shard) for shard in found])
        return found

    def decode_into(
        self, shards: Mapping[int, memoryview], code: Code, wanted: Sequence[int], into: Sequence[memoryview]
    ) -> None:
        if len(shards) < code.k:
            raise Unavailable(f"{len(shards)} shards are here, {code.k} are needed", code="too_few_shards")
        if not all(0 <= index < code.n for index in (*shards, *wanted)) or len(wanted) != len(into):
            raise LocalError(f"shards {sorted(shards)} and {list(wanted)} of a code of {code.n}", code="bad_shards")
        chosen = tuple(sorted(shards)[: code.k])  # Data shards first: rows of the unit matrix cost nothing.
        data = [shards[index] for index in chosen]
        _check_lengths(data, into)
        if wanted:
            self._product(restoring(code, chosen, tuple(wanted)), data, into)


@lru_cache(maxsize=64)
def generator(code: Code) -> Matrix:
    """The n rows of k: first the unit matrix, then row i has 1 / (i xor j) in column j.

    >>> [row.hex() for row in generator(Code(2, 4))]
    ['0100', '0001', '8ef4', 'f48e']
    """
    units = [bytes(int(row == column) for column in range(code.k)) for row in range(code.k)]
    cauchy = [bytes(galois.inverse(row ^ column) for column in range(code.k)) for row in range(code.k, code.n)]
    return (*units, *cauchy)


@lru_cache(maxsize=256)
def restoring(code: Code, chosen: tuple[int, ...], wanted: tuple[int, ...]) -> Matrix:
    """The matrix that turns the chosen k shards into the wanted ones."""
    rows = generator(code)
    back = galois.inverted(tuple(rows[index] for index in chosen))
    columns = [memoryview(row) for row in back]
    found = tuple(bytearray(code.k) for _ in wanted)
    galois.product(tuple(rows[index] for index in wanted), columns, [memoryview(row) for row in found])
    return tuple(bytes(row) for row in found)


def _check_lengths(data: Sequence[memoryview], into: Sequence[memoryview]) -> None:
    if len({len(view) for view in (*data, *into)}) > 1:
        raise LocalError("shards of one pack have one length", code="bad_shards")


NUMPY: Final = ReedSolomon(galois.product, "NumPy")
"""Half a gigabyte per second anywhere, where ISA-L is not to be had."""
