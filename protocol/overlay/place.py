"""Where a peer is: a region in its owner's words, and a coordinate whose distances are round trips.

Spec: specs/23-discovery.md. Coordinates are made by `protocol.overlay.vivaldi`; everybody can compare two of them.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.units import PPM, Micros

SPAN_MAX: Final = 2_000_000
"""Microseconds: no axis of a coordinate is longer; a round trip of four seconds is of no use to anybody."""

UNKNOWN_PPM: Final = PPM
"""An error of the whole estimate: a coordinate that says nothing yet."""

Axis = Annotated[int, Meta(ge=-SPAN_MAX, le=SPAN_MAX)]
Region = Annotated[str, Meta(max_length=32, pattern=r"^([a-z0-9][a-z0-9-]*)?$")]
"""`eu-west`; empty = its owner did not say, and nothing is guessed."""


class Coordinate(Struct, frozen=True, forbid_unknown_fields=True):
    """A place in a plane, and the height of the last mile above it; all in microseconds of round trip."""

    x: Axis = 0
    y: Axis = 0
    height: Annotated[int, Meta(ge=0, le=SPAN_MAX)] = 0
    error_ppm: Annotated[int, Meta(ge=0, le=UNKNOWN_PPM)] = UNKNOWN_PPM
    """How far off its own estimates have been lately, relative."""

    @property
    def is_known(self) -> bool:
        """False until a few round trips were measured."""
        return self.error_ppm < UNKNOWN_PPM


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """What an offer and a peer record say about where their peer is."""

    region: Region = ""
    coordinate: Coordinate = Coordinate()


NOWHERE: Final = Place()
"""The place of a peer that says nothing about it."""


def distance(a: Coordinate, b: Coordinate) -> Micros:
    """The round trip that two coordinates stand for, microseconds; exact integers, the same on every machine."""
    return Micros(math.isqrt((a.x - b.x) ** 2 + (a.y - b.y) ** 2) + a.height + b.height)


def estimate(a: Coordinate, b: Coordinate) -> Micros | None:
    """The estimated round trip, microseconds; None while either side knows nothing about itself."""
    return distance(a, b) if a.is_known and b.is_known else None
