"""A path tracer over arrays of rays: four balls on a floor under a bright sky, light bounced up to four times.

Only additions, products, quotients, square roots and comparisons, each done by itself: IEEE 754 defines them to the
last bit. Chance is a function of (seed, pixel, sample, bounce). So every machine gets the same paths.
"""

from __future__ import annotations

import numpy as np
from shoal_work.counter_random import circle, philox, uniform

BOUNCES = 4
NEAR = 1e-4
FAR = 1e9
# x, y, z, radius; red, green, blue; 1: a mirror, 0: matt
BALLS = np.array(
    [
        [0.0, 1.0, 0.0, 1.0, 0.9, 0.9, 0.9, 1.0],
        [-2.1, 0.7, 0.6, 0.7, 0.8, 0.25, 0.2, 0.0],
        [1.9, 0.6, -0.5, 0.6, 0.2, 0.5, 0.8, 0.0],
        [0.7, 0.35, -1.6, 0.35, 0.9, 0.7, 0.2, 0.0],
    ]
)
EYE = (0.0, 1.6, -6.0)


def paths(key, width, height, xs, ys, first, last):
    """Radiance (m, samples, 3) of the samples `first` to `last` - 1 at m pixels of a picture."""
    pixel = np.repeat(np.asarray(ys) * width + np.asarray(xs), last - first)
    sample = np.tile(np.arange(first, last), len(xs))
    a, b, _, _ = philox(key, pixel, sample, 0)
    column, row = pixel % width, pixel // width
    dx = (2.0 * (column + uniform(a)) - width) / height
    dy = (height - 2.0 * (row + uniform(b))) / height - 0.25
    dx, dy, dz = unit(dx, dy, np.full(len(dx), 2.2))
    ox, oy, oz = (np.full(len(dx), value) for value in EYE)
    light, left = np.zeros((len(dx), 3)), np.ones((len(dx), 3))
    alive = np.arange(len(dx))
    for bounce in range(1, BOUNCES + 1):
        distance, what = nearest(ox, oy, oz, dx, dy, dz)
        gone = what == len(BALLS) + 1
        light[alive[gone]] += left[alive[gone]] * sky(dx[gone], dy[gone], dz[gone])
        here = ~gone
        alive, what, distance = alive[here], what[here], distance[here]
        ox, oy, oz = (o[here] + distance * d[here] for o, d in ((ox, dx), (oy, dy), (oz, dz)))
        dx, dy, dz = dx[here], dy[here], dz[here]
        nx, ny, nz, colour, is_mirror = surface(ox, oy, oz, what)
        left[alive] *= colour
        a, b, _, _ = philox(key, pixel[alive], sample[alive], bounce)
        dx, dy, dz = scattered(dx, dy, dz, nx, ny, nz, is_mirror, uniform(a), uniform(b))
    return light.reshape(len(xs), last - first, 3)


def unit(x, y, z):
    """The same direction with length one."""
    length = np.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


def nearest(ox, oy, oz, dx, dy, dz):
    """Distance and number of what each ray meets: a ball, the floor, or nothing, one more than the floor."""
    down = np.where(dy < -1e-6, dy, -1e-6)
    floor = np.where((dy < -1e-6) & (-oy / down > NEAR), -oy / down, FAR)
    best, what = floor, np.where(floor < FAR, len(BALLS), len(BALLS) + 1)
    for number, (cx, cy, cz, radius) in enumerate(BALLS[:, :4]):
        x, y, z = cx - ox, cy - oy, cz - oz
        along = x * dx + y * dy + z * dz
        square = radius * radius - (x * x + y * y + z * z) + along * along
        half = np.sqrt(np.maximum(square, 0.0))
        distance = np.where(along - half > NEAR, along - half, along + half)
        hit = (square > 0.0) & (distance > NEAR) & (distance < best)
        best, what = np.where(hit, distance, best), np.where(hit, number, what)
    return best, what


def surface(px, py, pz, what):
    """Normal, colour (m, 3) and kind at points on balls and on the chequered floor."""
    ball = BALLS[np.minimum(what, len(BALLS) - 1)]
    on_floor = what == len(BALLS)
    nx, ny, nz = unit(px - ball[:, 0], py - ball[:, 1], pz - ball[:, 2])
    nx, ny, nz = np.where(on_floor, 0.0, nx), np.where(on_floor, 1.0, ny), np.where(on_floor, 0.0, nz)
    dark = (np.floor(px) + np.floor(pz)) % 2.0 == 0.0
    colour = np.where(on_floor[:, None], np.where(dark, 0.25, 0.75)[:, None], ball[:, 4:7])
    return nx, ny, nz, colour, ~on_floor & (ball[:, 7] > 0.5)


def scattered(dx, dy, dz, nx, ny, nz, is_mirror, u, v):
    """Where a ray goes on: mirrored, or anywhere above the surface with the cosine's weight."""
    facing = 2.0 * (dx * nx + dy * ny + dz * nz)
    z = 2.0 * u - 1.0
    ring = np.sqrt(np.maximum(1.0 - z * z, 0.0))
    cosine, sine = circle(v)
    mx, my, mz = nx + ring * cosine, ny + ring * sine, nz + z * 0.9999
    return unit(
        np.where(is_mirror, dx - facing * nx, mx),
        np.where(is_mirror, dy - facing * ny, my),
        np.where(is_mirror, dz - facing * nz, mz),
    )


def sky(dx, dy, dz):
    """Light from far away: pale at the horizon, a broad warm lamp on the left."""
    height = np.maximum(dy, 0.0)
    toward = np.maximum(-0.6 * dx + 0.55 * dy - 0.58 * dz, 0.0)
    glow = toward * toward
    glow = glow * glow
    lamp = np.where(glow * glow > 0.8, 9.0, 0.0)
    return np.stack([0.5 + 0.4 * glow + lamp, 0.6 + 0.3 * glow + lamp * 0.9, 0.7 + 0.3 * height + lamp * 0.7], axis=1)
