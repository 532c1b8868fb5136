"""The scene: spheres on a polished floor at dusk, the sky above them, and the camera.

Everything is `+ - * /` and square roots, which IEEE 754 defines to the last bit: the same picture on every machine.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple

Vector = tuple[float, float, float]

DIFFUSE: Final = 0
"""Painted and lacquered: light from everywhere, under a thin reflecting coat."""
METAL: Final = 1
GLASS: Final = 2
LAMP: Final = 3
"""Shines by itself and lights what is around it."""


class Sphere(NamedTuple):
    """A ball: centre, radius, what it is made of; `gloss` is the blur of its reflections."""

    x: float
    y: float
    z: float
    radius: float
    kind: int
    colour: Vector
    gloss: float


def normal(x: float, y: float, z: float) -> Vector:
    """The vector of length one in this direction."""
    scale = 1.0 / sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


def resting(x: float, z: float, radius: float, kind: int, colour: Vector, gloss: float = 0.0) -> Sphere:
    """A ball that lies on the floor."""
    return Sphere(x, radius, z, radius, kind, colour, gloss)


SPHERES: Final = (
    resting(-2.05, 0.55, 1.15, METAL, (0.95, 0.96, 0.98), 0.0),
    resting(0.45, 1.55, 1.35, DIFFUSE, (0.03, 0.27, 0.33), 0.015),
    resting(2.75, 0.85, 1.0, METAL, (1.0, 0.66, 0.24), 0.07),
    resting(0.25, -0.95, 0.72, GLASS, (0.97, 0.99, 1.0)),
    resting(-1.15, -1.55, 0.36, DIFFUSE, (0.80, 0.10, 0.08), 0.01),
    resting(1.72, -0.98, 0.46, DIFFUSE, (0.86, 0.83, 0.78), 0.03),
    resting(-3.70, -0.35, 0.52, DIFFUSE, (0.55, 0.13, 0.36), 0.02),
    resting(4.25, -0.55, 0.48, DIFFUSE, (0.07, 0.36, 0.20), 0.02),
    resting(-0.42, -2.25, 0.17, LAMP, (9.0, 4.2, 1.3)),
    resting(1.05, -2.02, 0.14, LAMP, (1.6, 5.2, 9.5)),
    resting(-2.35, -1.45, 0.15, LAMP, (9.5, 1.9, 4.6)),
    resting(2.72, -1.55, 0.16, LAMP, (7.5, 6.0, 2.2)),
    resting(-6.3, 4.2, 1.35, METAL, (0.93, 0.66, 0.55), 0.05),
    resting(6.9, 6.2, 1.25, METAL, (0.96, 0.80, 0.72), 0.04),
)

SUN: Final = normal(-0.37, 0.205, 1.0)
"""Towards the sun, low behind the scene, on the left."""
SUN_COLOUR: Final[Vector] = (7.2, 4.0, 1.9)
SUN_SPREAD: Final = 0.04
"""Half the angle of the sun's disk as a tangent: larger is softer shadows."""


def sky(dx: float, dy: float, dz: float) -> Vector:
    """Light from far away, direction of length one: night blue above, embers below, a glow around the sun."""
    height = dy * dy if dy > 0.0 else 0.0
    haze = 1.0 / (1.0 + 14.0 * height)
    low = 1.0 / (1.0 + 150.0 * height)
    toward = dx * SUN[0] + dy * SUN[1] + dz * SUN[2]
    warm = 0.5 + 0.5 * toward
    ember = low * (0.10 + 0.90 * warm * warm * warm)
    glow = max(0.0, toward)
    for _ in range(4):
        glow *= glow
    halo = glow * glow
    for _ in range(3):
        halo *= halo
    disk = halo * halo
    for _ in range(2):
        disk *= disk
    return (
        0.014 + 0.150 * haze + 0.78 * ember + 0.30 * glow + 0.75 * halo + 12.0 * disk,
        0.034 + 0.115 * haze + 0.29 * ember + 0.12 * glow + 0.42 * halo + 8.5 * disk,
        0.120 + 0.210 * haze + 0.07 * ember + 0.03 * glow + 0.16 * halo + 4.6 * disk,
    )


def floor_colour(x: float, z: float) -> Vector:
    """Dark tiles with thin brass joints, fading into the distance."""
    fx = x * 0.8 + 1000.35
    fz = z * 0.8 + 1000.15
    column, row = int(fx), int(fz)
    fx -= column
    fz -= row
    edge = min(fx, 1.0 - fx, fz, 1.0 - fz)
    if edge < 0.011:
        return 0.40, 0.27, 0.12
    shade = 0.045 if (column + row) & 1 else 0.095
    return shade, shade * 1.01, shade * 1.10


class Camera(NamedTuple):
    """A thin lens: where it is, its axes, the size of the picture plane at the distance that is sharp."""

    origin: Vector
    right: Vector
    up: Vector
    forward: Vector
    half_width: float
    focus: float
    lens: float


def camera() -> Camera:
    """From the front, a little above, sharp at the glass ball."""
    origin = (0.55, 1.75, -7.4)
    target = (0.22, 0.86, 0.2)
    forward = normal(target[0] - origin[0], target[1] - origin[1], target[2] - origin[2])
    right = normal(forward[2], 0.0, -forward[0])
    up = (
        forward[1] * right[2] - forward[2] * right[1],
        forward[2] * right[0] - forward[0] * right[2],
        forward[0] * right[1] - forward[1] * right[0],
    )
    return Camera(origin, right, up, forward, 0.60, 6.35, 0.06)
