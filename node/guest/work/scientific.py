"""Simulations in segments, Monte Carlo in streams, sweeps in points, and what a job's `check` lines are made of.

    Segments   unit i advances a state by `length` steps; its last tensor `history` has a row of invariants per unit
    Streams    unit i is stream i: integers that a generator keyed by (seed, stream) makes, one row; they are added up
    Rows       unit i is point i of a sweep, or any other unit that needs no other

Spec: specs/36-scientific-proof.md.
"""

from __future__ import annotations

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .counter_random import Words, key_of, philox
from .rows import Rows, rows_of
from .tensors import Array, State, decode
from .work import Aux, Work

HISTORY = "history"
"""Tensor (units so far, k) of a segmented simulation: energies, masses, whatever has to be kept."""

TOTAL = "total.json"
"""File of a Monte Carlo chunk: its streams added up, and the root of the tree of sums over them."""

SUM_MAX = 1 << 62
"""Largest absolute value of one stream's number."""

Floats = npt.NDArray[np.float64]


class Segments(Work):
    """A simulation whose unit is `length` steps. The state is whatever `advance` needs, and `history`."""

    length = 100

    def begin(self) -> dict[str, Array]:
        """Where the simulation starts."""
        raise TypeError(f"{type(self).__name__} has no method begin()")

    def advance(self, state: dict[str, Array], index: int) -> tuple[dict[str, Array], list[float]]:
        """(the state `length` steps on, the invariants after them): a function of its arguments and `seed`."""
        raise TypeError(f"{type(self).__name__} has no method advance()")

    def first(self) -> State:
        return self.begin()

    def step(self, state: State, index: int) -> tuple[State, Aux]:
        if isinstance(state, bytes):
            raise TypeError("a simulation's state is tensors")
        before = dict(state)
        history = before.pop(HISTORY, None)
        after, invariants = self.advance(before, index)
        row = np.asarray([invariants], np.float64)
        kept = row if history is None else np.concatenate([history, row])
        return {**after, HISTORY: kept}, {"invariants": row[0]}

    def effect(self, before: State, after: State, aux: Aux) -> float:
        """The change of the state without its history, which grows."""
        if isinstance(before, bytes) or isinstance(after, bytes):
            raise TypeError("a simulation's state is tensors")
        plain = [{name: value for name, value in state.items() if name != HISTORY} for state in (before, after)]
        return super().effect(plain[0], plain[1], aux)


class Stream:
    """The random numbers of one stream: `words(n)` gives the next n × 4 of them."""

    def __init__(self, seed: bytes, number: int) -> None:
        self._key = key_of(seed, "stream")
        self._number = number
        self._at = 0

    def words(self, blocks: int) -> tuple[Words, Words, Words, Words]:
        """Four arrays of `blocks` words of 32 random bits."""
        places = np.arange(self._at, self._at + blocks, dtype=np.uint64)
        self._at += blocks
        return philox(self._key, places, places >> np.uint64(32), self._number)


class Streams(Rows):
    """Monte Carlo: `stream` returns `values` integers, and the result is their sum over all streams."""

    values = 1

    def stream(self, source: Stream, number: int) -> list[int]:
        """What one stream found, as integers: counts, or numbers in fixed point."""
        raise TypeError(f"{type(self).__name__} has no method stream()")

    def empty(self) -> Array:
        return np.zeros((0, self.values), np.int64)

    def row(self, index: int) -> tuple[Array, Aux]:
        found = self.stream(Stream(self.seed, index), index)
        if len(found) != self.values or any(abs(value) > SUM_MAX for value in found):
            raise ValueError(f"stream {index} gave {found!r:.200}, not {self.values} numbers up to 2^62")
        row = np.array(found, np.int64)
        return row, {"sums": row}

    def finish(self, state: State, out: Path) -> None:
        rows = rows_of(state).tolist()
        total = [sum(column) for column in zip(*rows)]  # noqa: B905  3.9
        said = {"root": sum_root(rows).hex(), "streams": len(rows), "total": total}
        (out / TOTAL).write_text(json.dumps(said, sort_keys=True) + "\n", encoding="utf-8")


def sum_root(rows: list[list[int]]) -> bytes:
    """Root of the Merkle-sum tree over streams: as `verifier/merkle_sum.py` makes it."""
    level = [(_hashed(b"sum-leaf", _number(i), *map(_value, row)), row) for i, row in enumerate(rows)]
    while len(level) > 1:
        pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
        level = [pair[0] if len(pair) == 1 else _joined(*pair) for pair in pairs]
    return _hashed(b"sum-root", _number(len(rows)), level[0][0], *map(_value, level[0][1]))


def _joined(left: tuple[bytes, list[int]], right: tuple[bytes, list[int]]) -> tuple[bytes, list[int]]:
    sums = [a + b for a, b in zip(left[1], right[1])]  # noqa: B905  3.9
    return _hashed(b"sum-node", left[0], *map(_value, left[1]), right[0], *map(_value, right[1])), sums


def _hashed(domain: bytes, *parts: bytes) -> bytes:
    data = b"shoal/1\0" + b"".join(len(part).to_bytes(4, "big") + part for part in (domain, *parts))
    return hashlib.sha256(data).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _value(value: int) -> bytes:
    return value.to_bytes(16, "big", signed=True)


def check_total(result: Path) -> None:
    """For a `check` line: the chunk's total is the sum of its streams, all of them. Raises SystemExit otherwise."""
    rows = rows_of(decode((result / "state.shoal").read_bytes())).tolist()
    said = json.loads((result / TOTAL).read_text(encoding="utf-8"))
    total = [sum(column) for column in zip(*rows)]  # noqa: B905  3.9
    if said != {"root": sum_root(rows).hex(), "streams": len(rows), "total": total}:
        raise SystemExit(f"sum_differs: the streams add up to {total}, the file says {said!r:.200}")
    print(f"{len(rows)} streams add up to {total}")


def check_drift(result: Path, column: int, limit: float) -> None:
    """For a `check` line: an invariant in `history` stays within `limit`, relative to its size at the start."""
    history = dict(_tensors(result))[HISTORY]
    worst = drift(np.asarray(history, np.float64)[:, column])
    demand("drift", worst, limit)


def check_solution(result: Path, matrix: Floats, right: Floats, name: str, limit: float) -> None:
    """For a `check` line: the tensor `name` solves matrix · x = right."""
    demand("residual", residual(matrix, np.asarray(dict(_tensors(result))[name], np.float64), right), limit)


def demand(what: str, value: float, limit: float) -> None:
    """Says the number, and ends with an error unless it is within its limit; nan is not."""
    if not value <= limit:
        raise SystemExit(f"{what} is {value:.6g}, at most {limit:.6g} is allowed")
    print(f"{what} is {value:.6g} of at most {limit:.6g}")


def residual(matrix: Floats, solution: Floats, right: Floats) -> float:
    """‖Ax − b‖ / (‖A‖ ‖x‖ + ‖b‖): how large an error in A and b would make the solution exact (Rigal and Gaches)."""
    size = float(np.linalg.norm(matrix) * np.linalg.norm(solution) + np.linalg.norm(right))
    return float(np.linalg.norm(matrix @ solution - right)) / size if size else 0.0


def drift(series: Floats) -> float:
    """Largest distance of an invariant from its first value, relative to that; infinite when it is no number."""
    if not len(series) or not np.isfinite(series).all():
        return math.inf
    size = abs(float(series[0]))
    return float(np.abs(series - series[0]).max()) / size if size else math.inf


def _tensors(result: Path) -> dict[str, Array]:
    state = decode((result / "state.shoal").read_bytes())
    if isinstance(state, bytes):
        raise SystemExit("the result is bytes, not tensors")
    return dict(state)


class Darts(Streams):
    """π by darts at a quarter of a disc: what a stream hits, and what it throws. To measure the class itself."""

    values = 2

    def __init__(self, darts: int = 65536) -> None:
        super().__init__()
        self.darts = darts

    def stream(self, source: Stream, number: int) -> list[int]:
        a, b, c, d = (word >> np.uint64(1) for word in source.words((self.darts + 1) // 2))
        limit = np.uint64(1 << 62)  # Of two squares of 31 bits.
        hits = np.stack([a * a + b * b < limit, c * c + d * d < limit], axis=1).reshape(-1)[: self.darts]
        return [int(hits.sum()), self.darts]


def bitwise_run(threads: int = 1) -> str:
    """SHA-256 of eight streams computed by so many threads: the same on every machine that computes honestly."""
    work = Darts()
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda index: work.row(index)[0], range(8)))
    return hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()


def digests() -> dict[str, str]:
    """`bitwise_run` by one, two and four threads, for a table of machines: one value, three times."""
    return {f"{threads} threads": bitwise_run(threads) for threads in (1, 2, 4)}
