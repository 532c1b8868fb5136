"""What a referee and the claims of a verification game say to each other. Spec: specs/37-verification-game.md.

A claim is a Merkle root over ordered leaves. Whoever can open its leaves may speak for it, so nothing here is signed:
a path under the root convinces, and what does not fit is the fault of who sent it, not of the claim.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

NODES_MAX: Final = 32
"""Nodes that one answer opens: five levels of a tree."""

POINTS_MAX: Final = 2
"""Leaves that one answer opens: the disputed one and its neighbour."""

LEAF_BYTES_MAX: Final = 512
"""Bytes of a leaf: it holds digests and sizes, never data."""

PATH_MAX: Final = 32
"""Hashes from a leaf to the root of at most 2**32 leaves."""

DATA_BYTES_MAX: Final = 60_000
"""Bytes of one operator's inputs: they travel in one message, and the referee holds them in memory."""

Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Place = Annotated[int, Meta(ge=0, le=2**32)]


class Point(Struct, frozen=True, forbid_unknown_fields=True):
    """One leaf and its path to the claim's root."""

    index: Place
    leaf: Annotated[bytes, Meta(max_length=LEAF_BYTES_MAX)]
    path: Annotated[tuple[Hash32, ...], Meta(max_length=PATH_MAX)]


class BisectRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="bisect_request"):
    """The referee of `game` wants what is below a node of the claim `root`, up to `depth` levels; its clock runs."""

    game: Hash32
    root: Hash32
    level: Annotated[int, Meta(ge=0, le=PATH_MAX)]
    place: Place
    depth: Annotated[int, Meta(ge=1, le=5)]


class BisectOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="bisect_opened"):
    """The nodes below one node of the claim `root`, from whoever has them. They hash to it, or are ignored."""

    game: Hash32
    root: Hash32
    level: Annotated[int, Meta(ge=0, le=PATH_MAX)]
    place: Place
    nodes: Annotated[tuple[Hash32, ...], Meta(min_length=1, max_length=NODES_MAX)]


class PointsRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="points_request"):
    """The first leaf that the claims differ in is known: the referee wants it, and what stands beside it."""

    game: Hash32
    root: Hash32
    indices: Annotated[tuple[Place, ...], Meta(min_length=1, max_length=POINTS_MAX)]


class PointsOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="points_opened"):
    """Leaves of the claim `root`, from whoever has them."""

    game: Hash32
    root: Hash32
    points: Annotated[tuple[Point, ...], Meta(min_length=1, max_length=POINTS_MAX)]


class LevelRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="level_request"):
    """The two claims agree before unit `unit` and not after it: each says how it got there, operator by operator."""

    game: Hash32
    root: Hash32
    unit: Place


class LevelOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="level_opened"):
    """The trace of unit `unit`, one leaf per operator, that ends where the claim `root` does. `data` binds its last
    leaf to the parent: the slot that holds the unit's result, with its path."""

    game: Hash32
    root: Hash32
    unit: Place
    trace: Hash32
    data: Annotated[bytes, Meta(max_length=DATA_BYTES_MAX)]


class LeafRequest(Struct, frozen=True, forbid_unknown_fields=True, tag="leaf_request"):
    """The referee wants what the operator before leaf `index` reads; failing that the claim loses as `withheld`."""

    game: Hash32
    root: Hash32
    index: Place


class LeafOpened(Struct, frozen=True, forbid_unknown_fields=True, tag="leaf_opened"):
    """The inputs of one operator with their paths in the state before it, encoded (`verifier.operators.Evidence`)."""

    game: Hash32
    root: Hash32
    index: Place
    data: Annotated[bytes, Meta(max_length=DATA_BYTES_MAX)]
