"""The tree over a trace: what a claim commits to, and how leaves of it are opened. Spec: specs/11-verification.md.

Leaves 0..n are the states of n units, leaf n + 1 the claimed effects of all of them. The number of leaves is bound into
the root (`protocol.merkle`) and its own index into every leaf, so nothing opens at another place than its own.
"""

from __future__ import annotations

import math
from typing import Final

from protocol import merkle, wire
from protocol.errors import RemoteViolation
from protocol.proof import UNITS_MAX, Leaf, Opening, Trace
from protocol.units import Digest, PeerId

TRACE_BYTES_MAX: Final = 192 * (UNITS_MAX + 1)
"""Bytes of an encoded trace: 160 for a leaf with the largest numbers, two for its effect."""

EFFECT_SCALE: Final = 1000
"""Steps per doubling of an effect: it is ranked to a tenth of a percent."""

EFFECT_UNIT: Final = 1e9
"""Effects below a billionth of the job's own unit count as none."""

EFFECT_MAX: Final = 65_535
"""The largest that two bytes hold: anything beyond 5e10, and whatever is no number."""

_LEAF: Final = b"shoal/1\0trace-leaf\0"
_EFFECTS: Final = b"shoal/1\0trace-effects\0"
_decoder: Final = wire.decoder(Trace)


def leaf_bytes(leaf: Leaf) -> bytes:
    """What is hashed for a leaf: every field at a fixed place, 120 bytes behind the domain."""
    numbers = (leaf.index, leaf.state_bytes, leaf.aux_bytes)
    head = b"".join(number.to_bytes(8, "big") for number in numbers)
    return _LEAF + head + leaf.state + leaf.input + leaf.aux


def effects_bytes(effects: bytes) -> bytes:
    """What is hashed for the last leaf."""
    return _EFFECTS + effects


def encode_effect(effect: float) -> bytes:
    """Two bytes that rank as the effect does; infinite, negative and no number at all rank highest: they are looked at.

    >>> [int.from_bytes(encode_effect(effect), "big") for effect in (0.0, 1e-9, 1.0, float("nan"), -1.0)]
    [0, 1000, 29897, 65535, 65535]
    """
    if not 0 <= effect < math.inf:
        return EFFECT_MAX.to_bytes(2, "big")
    steps = round(EFFECT_SCALE * math.log2(1 + EFFECT_UNIT * min(effect, 1e30)))
    return min(EFFECT_MAX, steps).to_bytes(2, "big")


class TraceTree:
    """All levels of the tree over one trace."""

    __slots__ = ("_tree", "trace")

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._tree = merkle.Tree([*(leaf_bytes(leaf) for leaf in trace.leaves), effects_bytes(trace.effects)])

    @property
    def root(self) -> Digest:
        """What the claim carries."""
        return self._tree.root

    def open(self, index: int) -> Opening:
        """Leaf `index` and its path. Raises IndexError outside 0..n."""
        if not 0 <= index <= self.trace.units:
            raise IndexError(f"leaf {index} of a trace of {self.trace.units} units")
        return Opening(self.trace.leaves[index], self._tree.path(index))

    @property
    def effects_path(self) -> tuple[Digest, ...]:
        """The path of the effects."""
        return self._tree.path(self.trace.units + 1)


def decode_trace(data: bytes, maker: PeerId) -> Trace:
    """The trace in a blob. Raises `RemoteViolation` with the maker's name on it: `over_limit`, `malformed`,
    `not_canonical`, or `bad_trace` when leaves are not numbered in order or an effect is missing."""
    trace = wire.decode(data, _decoder, maker, TRACE_BYTES_MAX)
    check_trace(trace, maker)
    return trace


def check_trace(trace: Trace, maker: PeerId) -> None:
    """The shape of a whole trace. Raises `RemoteViolation` (`bad_trace`)."""
    is_numbered = all(leaf.index == place for place, leaf in enumerate(trace.leaves))
    last = trace.leaves[-1]
    is_ended = last.input == last.aux == bytes(32) and last.aux_bytes == 0
    if not is_numbered or not is_ended or len(trace.effects) != 2 * trace.units:
        raise RemoteViolation(maker, "leaves out of order, or effects of other units than there are", code="bad_trace")
