"""What is said in a seeded benchmark: a claim of an offer is shown to whoever doubts it. Spec: specs/41-benchmarks.md.

Request, ready, seed, root, beacon, rows, verdict. The seed comes when the other stands ready, so that starting a
program is not counted; the rows are chosen when the root is here, so that a product which was never made cannot answer.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from protocol.jobspec import Bytes32, NonNegative
from protocol.operations import Reason

ROW_BYTES_MAX: Final = 32_768
"""One row of a product of 8192 columns, 4 bytes each: with its path it fits a message."""

ORDER_SIZE_MAX: Final = ROW_BYTES_MAX // 4
"""Rows and columns of a matrix that may be asked for over the network."""

PRODUCTS_MAX: Final = 64
"""Products of one benchmark: 64 of 1024 rows are 256 MiB, as is one of 8192."""

PATH_MAX: Final = 20
"""Digests that lead from a row to the root: 2^20 rows."""

BenchId = Annotated[bytes, Meta(min_length=16, max_length=16)]
BenchKind = Literal["cpu", "gpu"]


class BenchRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_request"):
    """Stand ready for `count` products of square 8-bit matrices, on the processor or on one card."""

    bench: BenchId
    kind: BenchKind
    card: Annotated[int, Meta(ge=0, le=63)]
    """Which of the offered cards; 0 for the processor."""
    size: Annotated[int, Meta(ge=1, le=ORDER_SIZE_MAX)]
    count: Annotated[int, Meta(ge=1, le=PRODUCTS_MAX)]


class BenchReply(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_reply"):
    """`ready`, or why nothing more comes: busy | too_often | too_large | no_card | unable."""

    bench: BenchId
    code: Reason


class BenchSeed(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_seed"):
    """Of which the matrices are made. The issuer's clock runs from here."""

    bench: BenchId
    seed: Bytes32


class BenchAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_answer"):
    """The root over all rows of all products: the issuer's clock stops."""

    bench: BenchId
    root: Bytes32


class BenchOpen(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_open"):
    """Fresh chance of the issuer; with seed and root it chooses the rows (`verifier.gpu_challenge.chosen`)."""

    bench: BenchId
    beacon: Bytes32


class BenchRow(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_row"):
    """One chosen row, in the order of their numbers: 32-bit integers, little-endian, and its path to the root."""

    bench: BenchId
    row: Annotated[bytes, Meta(max_length=ROW_BYTES_MAX)]
    path: Annotated[tuple[Bytes32, ...], Meta(max_length=PATH_MAX)]


class BenchVerdict(Struct, frozen=True, forbid_unknown_fields=True, tag="bench_verdict"):
    """What the issuer makes of it: plausible | too_slow | wrong_row | no_answer. Nothing is slashed by it."""

    bench: BenchId
    code: Reason
    took: NonNegative
    """µs, without the round trip."""
    limit: NonNegative
    """µs that the offered device has."""
