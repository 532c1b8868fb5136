"""What the beacon asks of a claim: whether it is audited, which units are replayed. Spec: specs/11-verification.md.

The seed binds the whole claim and a beacon that did not exist when it was sealed, so that nobody can claim again until
the draw is pleasant. Indices come from SHAKE-256 with rejection sampling: no unit is likelier than another by rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from protocol.proof import Kind, Numeric

FIXED: Final = 3
"""Units that are replayed in any case where there are samples enough: the first, the last, the largest claimed one."""

UNIFORM_FIRST: Final = 4
"""One audit in so many, where neighbours may not be replayed together, lets the dice choose before the fixed ones:
else the neighbours of the fixed units would never be looked at."""

INDEPENDENT: Final = frozenset[Kind](("inference",))
"""Kinds whose units share nothing: the state behind a unit is the next request, not its result."""

PARTIAL: Final = frozenset[Kind](("rendering",))
"""Kinds whose replay may compute a part of a unit only, so that nothing is there from which a next one could go on."""

_WORD: Final = 4
_BLOCK: Final = 1024


def seed(place: tuple[bytes, int, int], sealed: bytes, trace: bytes, beacon: bytes) -> bytes:
    """32 bytes of the claim (escrow, chunk, epoch; seal; trace root, empty without one) and the beacon."""
    escrow, chunk, epoch = place
    numbers = chunk.to_bytes(8, "big") + epoch.to_bytes(8, "big")
    claimed = escrow + numbers + sealed + (trace or bytes(32))
    return hashlib.sha256(b"shoal/1\0chal\0" + claimed + beacon).digest()


def may_touch(kind: Kind, numeric: Numeric) -> bool:
    """Whether a unit and the next may be replayed in one audit: not where the opened state behind the first would show
    its result, unless the second goes on from what was replayed, which only bitwise classes allow."""
    return kind in INDEPENDENT or (numeric != "D3" and kind not in PARTIAL)


def goes_on(kind: Kind, numeric: Numeric) -> bool:
    """Whether a unit behind a replayed one is replayed from that result: its own state is kept from the auditor."""
    return kind not in INDEPENDENT and may_touch(kind, numeric)


def fixed(samples: int) -> int:
    """How many of the samples are no matter of chance: one at least always is.

    >>> [fixed(samples) for samples in (1, 2, 4, 32)]
    [0, 1, 3, 3]
    """
    return min(FIXED, samples - 1)


def indices(from_seed: bytes, units: int, samples: int, effects: Sequence[int], touch: bool) -> tuple[int, ...]:
    """The units to replay, in order: at most `samples` of `units`, fewer only where neighbours may not `touch`.

    `effects`: what each unit claims, one number per unit. Raises ValueError for other counts."""
    if len(effects) != units or units < 1 or samples < 1:
        raise ValueError(f"{samples} samples of {units} units with {len(effects)} effects")
    lot = _shuffled(from_seed, units)
    ends = sorted({0, units - 1}, key=lot.index)
    inner = max((index for index in lot if index not in ends), key=lambda index: effects[index], default=0)
    anchors = list(dict.fromkeys((*ends, inner)))[: fixed(min(samples, FIXED + 1))]
    is_uniform_first = not touch and from_seed[0] % UNIFORM_FIRST == 0
    wanted = [*lot, *anchors] if is_uniform_first else [*anchors, *lot]
    chosen: set[int] = set()
    for index in wanted:
        if len(chosen) < samples and (touch or not {index - 1, index + 1} & chosen):
            chosen.add(index)
    return tuple(sorted(chosen))


def _shuffled(from_seed: bytes, count: int) -> list[int]:
    """0..count-1 in an order that the seed alone decides (Fisher and Yates)."""
    words = _words(from_seed)
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = _below(words, last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def _below(words: Iterator[int], bound: int) -> int:
    """A number below `bound`, every one as likely: words beyond the last whole multiple are thrown away."""
    whole = (1 << 8 * _WORD) // bound * bound
    return next(word for word in words if word < whole) % bound


def _words(from_seed: bytes) -> Iterator[int]:
    block = 0
    while True:
        data = hashlib.shake_256(b"shoal/1\0units\0" + from_seed + block.to_bytes(8, "big")).digest(_BLOCK)
        yield from (int.from_bytes(data[at : at + _WORD], "big") for at in range(0, _BLOCK, _WORD))
        block += 1
