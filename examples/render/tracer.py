"""A ray tracer: soft sunlight, light from lamps and sky with occlusion in closed form, blurred reflections, glass.

Only `+ - * /` and square roots. Randomness is a function of pixel and sample, so a tile needs nobody else's state.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

from scene import GLASS, LAMP, METAL, SPHERES, SUN, SUN_COLOUR, SUN_SPREAD, Vector, camera, floor_colour, normal, sky

DEPTH_MAX: Final = 4
NEAR: Final = 1e-4
FAR: Final = 1e9
FLOOR: Final = -1
NOTHING: Final = -2
MASK: Final = (1 << 64) - 1

_HIT: Final = tuple((s.x, s.y, s.z, s.radius * s.radius, number) for number, s in enumerate(SPHERES))
_SHADE: Final = tuple((s.x, s.y, s.z, s.radius * s.radius) for s in SPHERES if s.kind != LAMP)
_LIT_BY: Final = tuple(
    (s.x, s.y, s.z, s.radius * s.radius, s.kind == LAMP, s.colour, number) for number, s in enumerate(SPHERES)
)
_TANGENT: Final = normal(SUN[2], 0.0, -SUN[0])
_BITANGENT: Final = (
    SUN[1] * _TANGENT[2] - SUN[2] * _TANGENT[1],
    SUN[2] * _TANGENT[0] - SUN[0] * _TANGENT[2],
    SUN[0] * _TANGENT[1] - SUN[1] * _TANGENT[0],
)


def scrambled(number: int) -> int:
    """64 well-mixed bits of a counter (SplitMix64, Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & MASK
    return number ^ (number >> 31)


def nearest(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, int]:
    """Distance and number of what the ray meets first; the ray's direction has length one."""
    best, what = FAR, NOTHING
    if dy < -1e-6:
        distance = -oy / dy
        if distance > NEAR:
            best, what = distance, FLOOR
    for cx, cy, cz, rr, number in _HIT:
        x, y, z = cx - ox, cy - oy, cz - oz
        along = x * dx + y * dy + z * dz
        apart = x * x + y * y + z * z
        if along <= 0.0 and apart > rr:
            continue
        square = rr - apart + along * along
        if square > 0.0:
            half = sqrt(square)
            distance = along - half
            if distance < NEAR:
                distance = along + half
            if NEAR < distance < best:
                best, what = distance, number
    return best, what


def is_shaded(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> bool:
    """Whether something stands between the point and the sun."""
    for cx, cy, cz, rr in _SHADE:
        x, y, z = cx - ox, cy - oy, cz - oz
        along = x * dx + y * dy + z * dz
        if along > 0.0 and x * x + y * y + z * z - along * along < rr:
            return True
    return False


def surroundings(p: Vector, n: Vector, own: int) -> Vector:
    """Light on a surface from sky, floor, lamps and neighbouring balls.

    A ball of radius r at distance d covers n·ŵ·r²/d² of what a surface sees (cosine-weighted, ball above the horizon):
    it takes that share from the sky and gives its own light or colour instead.
    """
    px, py, pz = p
    nx, ny, nz = n
    free, red, green, blue = 1.0, 0.0, 0.0, 0.0
    for cx, cy, cz, rr, is_lamp, colour, number in _LIT_BY:
        if number == own:
            continue
        x, y, z = cx - px, cy - py, cz - pz
        apart = x * x + y * y + z * z
        if apart < rr * 1.0001:
            apart = rr * 1.0001
        distance = sqrt(apart)
        share = (nx * x + ny * y + nz * z) / distance
        sine = sqrt(rr / apart)
        if share < sine:
            share = (share + sine) * (share + sine) / (4.0 * sine) if share > -sine else 0.0
        share *= rr / apart
        if is_lamp:
            red, green, blue = red + colour[0] * share, green + colour[1] * share, blue + colour[2] * share
        else:
            free *= 1.0 - share
            red, green, blue = (
                red + 0.16 * colour[0] * share,
                green + 0.12 * colour[1] * share,
                blue + 0.11 * colour[2] * share,
            )
    upward = 0.5 + 0.5 * ny
    return (
        red + free * (0.34 * upward + 0.060 * (1.0 - upward)),
        green + free * (0.30 * upward + 0.052 * (1.0 - upward)),
        blue + free * (0.42 * upward + 0.050 * (1.0 - upward)),
    )


def lit(p: Vector, n: Vector, own: int, colour: Vector, u: float, v: float) -> Vector:
    """Light that a painted surface throws back: sunlight through the shadow test, and the surroundings."""
    red, green, blue = surroundings(p, n, own)
    a, b = (2.0 * u - 1.0) * SUN_SPREAD, (2.0 * v - 1.0) * SUN_SPREAD
    sx = SUN[0] + a * _TANGENT[0] + b * _BITANGENT[0]
    sy = SUN[1] + a * _TANGENT[1] + b * _BITANGENT[1]
    sz = SUN[2] + a * _TANGENT[2] + b * _BITANGENT[2]
    facing = n[0] * sx + n[1] * sy + n[2] * sz
    if facing > 0.0:
        scale = 1.0 / sqrt(sx * sx + sy * sy + sz * sz)
        if not is_shaded(p[0], p[1], p[2], sx * scale, sy * scale, sz * scale):
            red += SUN_COLOUR[0] * facing
            green += SUN_COLOUR[1] * facing
            blue += SUN_COLOUR[2] * facing
    return red * colour[0], green * colour[1], blue * colour[2]


def bounced(p: Vector, d: Vector, n: Vector, gloss: float, depth: int, u: float, v: float) -> Vector:
    """What is seen in the surface: the mirrored ray, bent aside a little where the surface is not quite smooth."""
    cosine = 2.0 * (d[0] * n[0] + d[1] * n[1] + d[2] * n[2])
    rx, ry, rz = d[0] - cosine * n[0], d[1] - cosine * n[1], d[2] - cosine * n[2]
    if gloss > 0.0:
        a, b = gloss * (2.0 * u - 1.0), gloss * (2.0 * v - 1.0)
        rx, ry, rz = rx + a * n[2] - b * n[1], ry + b, rz - a * n[0] - b * n[1]
        scale = 1.0 / sqrt(rx * rx + ry * ry + rz * rz)
        rx, ry, rz = rx * scale, ry * scale, rz * scale
    return trace(p[0], p[1], p[2], rx, ry, rz, depth + 1, v, u)


def through_glass(p: Vector, d: Vector, number: int, depth: int, u: float, v: float) -> Vector:
    """Into the ball, out on the other side (two refractions in one go), with the reflection on the outside."""
    ball = SPHERES[number]
    inverse = 1.0 / ball.radius
    n = ((p[0] - ball.x) * inverse, (p[1] - ball.y) * inverse, (p[2] - ball.z) * inverse)
    cosine = -(d[0] * n[0] + d[1] * n[1] + d[2] * n[2])
    mirrored = fresnel(cosine, 0.04)
    eta = 1.0 / 1.5
    k = eta * cosine - sqrt(1.0 - eta * eta * (1.0 - cosine * cosine))
    ix, iy, iz = eta * d[0] + k * n[0], eta * d[1] + k * n[1], eta * d[2] + k * n[2]
    length = -2.0 * ball.radius * (ix * n[0] + iy * n[1] + iz * n[2])
    q = (p[0] + length * ix, p[1] + length * iy, p[2] + length * iz)
    m = ((ball.x - q[0]) * inverse, (ball.y - q[1]) * inverse, (ball.z - q[2]) * inverse)
    inner = -(ix * m[0] + iy * m[1] + iz * m[2])
    k = 1.5 * inner - sqrt(max(0.0, 1.0 - 2.25 * (1.0 - inner * inner)))
    ex, ey, ez = 1.5 * ix + k * m[0], 1.5 * iy + k * m[1], 1.5 * iz + k * m[2]
    scale = 1.0 / sqrt(ex * ex + ey * ey + ez * ez)
    behind = trace(q[0], q[1], q[2], ex * scale, ey * scale, ez * scale, depth + 1, u, v)
    front = bounced(p, d, n, 0.0, depth, u, v) if mirrored > 0.02 and depth < 2 else sky(*d)
    clear = 1.0 - mirrored
    return (
        clear * behind[0] * ball.colour[0] + mirrored * front[0],
        clear * behind[1] * ball.colour[1] + mirrored * front[1],
        clear * behind[2] * ball.colour[2] + mirrored * front[2],
    )


def fresnel(cosine: float, straight: float) -> float:
    """Share of light that a surface mirrors, by Schlick's formula; `straight` = seen head-on."""
    rest = 1.0 - cosine if cosine < 1.0 else 0.0
    square = rest * rest
    return straight + (1.0 - straight) * square * square * rest


def trace(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, depth: int, u: float, v: float) -> Vector:
    """Light that comes back along a ray (red, green, blue; 1.0 is white paper in shade)."""
    distance, what = nearest(ox, oy, oz, dx, dy, dz)
    if what == NOTHING:
        return sky(dx, dy, dz)
    p = (ox + distance * dx, oy + distance * dy, oz + distance * dz)
    d = (dx, dy, dz)
    if what == FLOOR:
        return on_floor(p, d, distance, depth, u, v)
    ball = SPHERES[what]
    if ball.kind == LAMP:
        rim = 0.12 + 0.26 * abs((p[0] - ball.x) * dx + (p[1] - ball.y) * dy + (p[2] - ball.z) * dz) / ball.radius
        return ball.colour[0] * rim, ball.colour[1] * rim, ball.colour[2] * rim
    if ball.kind == GLASS:
        return through_glass(p, d, what, depth, u, v) if depth < DEPTH_MAX else sky(dx, dy, dz)
    inverse = 1.0 / ball.radius
    n = ((p[0] - ball.x) * inverse, (p[1] - ball.y) * inverse, (p[2] - ball.z) * inverse)
    cosine = -(dx * n[0] + dy * n[1] + dz * n[2])
    if ball.kind == METAL:
        if depth >= DEPTH_MAX:
            return surroundings(p, n, what)
        seen = bounced(p, d, n, ball.gloss, depth, u, v)
        tint = fresnel(cosine, 0.0)
        red, green, blue = (colour + (1.0 - colour) * tint for colour in ball.colour)
        return seen[0] * red, seen[1] * green, seen[2] * blue
    base = lit(p, n, what, ball.colour, u, v)
    return coated(base, p, d, n, fresnel(cosine, 0.045), ball.gloss, depth, u, v)


def coated(
    base: Vector, p: Vector, d: Vector, n: Vector, mirrored: float, gloss: float, depth: int, u: float, v: float
) -> Vector:
    """Paint under lacquer; far down the path the reflection is only the sky's."""
    if depth >= 2:
        return base
    seen = bounced(p, d, n, gloss, depth, u, v)
    rest = 1.0 - mirrored
    return base[0] * rest + seen[0] * mirrored, base[1] * rest + seen[1] * mirrored, base[2] * rest + seen[2] * mirrored


def on_floor(p: Vector, d: Vector, distance: float, depth: int, u: float, v: float) -> Vector:
    """The polished floor, fading into the sky's haze far away."""
    n = (0.0, 1.0, 0.0)
    base = lit(p, n, FLOOR, floor_colour(p[0], p[2]), u, v)
    colour = coated(base, p, d, n, 0.82 * fresnel(-d[1], 0.09), 0.018, depth, u, v)
    clear = 1.0 / (1.0 + distance * distance * 0.0011)
    far = sky(d[0], 0.0, d[2])
    haze = 1.0 - clear
    return colour[0] * clear + far[0] * haze, colour[1] * clear + far[1] * haze, colour[2] * clear + far[2] * haze


def pixel(x: int, y: int, width: int, height: int, samples: int) -> Vector:
    """The mean of `samples` rays through one pixel, each through its own points of lens and pixel."""
    cam = camera_
    bits = scrambled(y * 65_536 + x)
    shift = tuple((bits >> (13 * k) & 8191) / 8192.0 for k in range(4))
    red = green = blue = 0.0
    for sample in range(samples):
        a = sample * 0.8566748838545029 + shift[0]
        b = sample * 0.7338918566271260 + shift[1]
        u = sample * 0.6287067210378087 + shift[2]
        v = sample * 0.5385972572236101 + shift[3]
        a, b, u, v = a - int(a), b - int(b), u - int(u), v - int(v)
        sx = (2.0 * (x + b) / width - 1.0) * cam.half_width * cam.focus
        sy = (1.0 - 2.0 * (y + a) / height) * cam.half_width * cam.focus * height / width
        lx, ly = on_disk(u, a)
        lx, ly = lx * cam.lens, ly * cam.lens
        ray = [(sx - lx) * cam.right[k] + (sy - ly) * cam.up[k] + cam.focus * cam.forward[k] for k in range(3)]
        scale = 1.0 / sqrt(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])
        start = [cam.origin[k] + lx * cam.right[k] + ly * cam.up[k] for k in range(3)]
        colour = trace(start[0], start[1], start[2], ray[0] * scale, ray[1] * scale, ray[2] * scale, 0, u, v)
        red += min(colour[0], 6.0)
        green += min(colour[1], 6.0)
        blue += min(colour[2], 6.0)
    return red / samples, green / samples, blue / samples


def on_disk(u: float, v: float) -> tuple[float, float]:
    """A point of the unit disk from a point of the unit square, by squeezing the square's corners."""
    x, y = 2.0 * u - 1.0, 2.0 * v - 1.0
    return x * sqrt(1.0 - 0.5 * y * y), y * sqrt(1.0 - 0.5 * x * x)


def developed(light: float) -> int:
    """A byte of the picture: filmic shoulder (Narkowicz's fit of ACES), then the sRGB curve made of square roots."""
    x = light * 0.92
    x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    x = min(max(x, 0.0), 1.0)
    s1 = sqrt(x)
    s2 = sqrt(s1)
    s3 = sqrt(s2)
    curve = 0.662002687 * s1 + 0.684122060 * s2 - 0.323583601 * s3 - 0.0225411470 * x
    return min(255, max(0, int(curve * 255.0 + 0.5)))


camera_: Final = camera()
