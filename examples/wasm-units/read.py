"""What became of the clusters: `python read.py results`, where the job's result was saved."""

import math
import struct
import sys
from pathlib import Path

STARS = 128
PLACES, VELOCITIES = 1024, 4096
"""Bytes into the memory, as cluster.wat says."""
FAR = 3
"""Radii of the start: whoever is farther from the middle was thrown out."""


def memory(path):
    """The module's memory: the end of `state.shoal`, behind a header."""
    data = path.read_bytes()
    header = 8 + struct.unpack_from("<Q", data)[0]
    return data[header:]


def vectors(held, offset):
    """128 × (x, y, z)."""
    numbers = struct.unpack_from(f"<{3 * STARS}d", held, offset)
    return list(zip(numbers[:STARS], numbers[STARS : 2 * STARS], numbers[2 * STARS :], strict=True))


def energy(places, velocities):
    """Of motion and of gravity, per unit of mass: what the leapfrog has to keep."""
    moving = sum(speed * speed for velocity in velocities for speed in velocity) / 2 / STARS
    pairs = (math.dist(one, other) for at, one in enumerate(places) for other in places[:at])
    return moving - sum(1 / math.hypot(distance, 2**-6) for distance in pairs) / STARS**2


def distances(places):
    """Of every star from the middle of all, ascending. A cluster that throws stars one way goes the other itself."""
    middle = [sorted(axis)[STARS // 2] for axis in zip(*places, strict=True)]
    return sorted(math.dist(place, middle) for place in places)


def main(folder):
    """One line for each cluster."""
    for path in sorted(Path(folder).rglob("state.shoal")):
        held = memory(path)
        places, velocities = vectors(held, PLACES), vectors(held, VELOCITIES)
        away = distances(places)
        gone = sum(distance > FAR for distance in away)
        print(
            f"{path.parent.name}: {gone} of {STARS} stars thrown out, half of all within {away[STARS // 2]:.3f}, "
            f"energy {energy(places, velocities):.4f}"
        )


if __name__ == "__main__":
    main(sys.argv[1])
