"""Checking what a provider opens of its trace against the root in its claim. Spec: specs/11-verification.md.

Everything here refuses with the one code `bad_path`: a leaf that is not under the root, at another index, of another
count, an inner node for a leaf, or effects of other units.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from protocol import merkle
from protocol.errors import Refused
from protocol.proof import PATH_MAX, Leaf, Opening, Trace
from protocol.trace import TraceTree, effects_bytes, leaf_bytes
from protocol.units import Digest

BAD_PATH: Final = "bad_path"
"""The code of every opening that does not fit the claim."""


def root(trace: Trace) -> Digest:
    """The root over leaves 0..n and the effects."""
    return TraceTree(trace).root


def check_opening(expected: bytes, units: int, opening: Opening) -> Leaf:
    """The leaf, which is number `leaf.index` of a trace of `units` units under the root `expected`.

    Raises `Refused` (`bad_path`)."""
    leaf = opening.leaf
    if not 0 <= leaf.index <= units:
        raise _bad(f"leaf {leaf.index} of a trace of {units} units")
    if len(opening.path) > PATH_MAX or not merkle.verify(
        expected, leaf_bytes(leaf), leaf.index, units + 2, opening.path
    ):
        raise _bad(f"leaf {leaf.index} is not under the claim's root")
    return leaf


def check_openings(
    expected: bytes, units: int, openings: Sequence[Opening], indices: Collection[int]
) -> dict[int, Leaf]:
    """The leaves at exactly these indices, each once. Raises `Refused` (`bad_path`)."""
    leaves = {opening.leaf.index: check_opening(expected, units, opening) for opening in openings}
    if len(leaves) != len(openings) or set(leaves) != set(indices):
        raise _bad(f"leaves {sorted(leaves)} were opened where {sorted(set(indices))} were asked for")
    return leaves


def check_effects(expected: bytes, units: int, effects: bytes, path: Sequence[bytes]) -> None:
    """Whether these are the claimed effects of all units. Raises `Refused` (`bad_path`)."""
    if len(effects) != 2 * units:
        raise _bad(f"{len(effects)} bytes are not the effects of {units} units")
    if len(path) > PATH_MAX or not merkle.verify(expected, effects_bytes(effects), units + 1, units + 2, path):
        raise _bad("the effects are not under the claim's root")


def _bad(detail: str) -> Refused:
    return Refused(detail, code=BAD_PATH)
