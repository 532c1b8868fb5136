"""What every worker costs for every job, by chunk: the same numbers on every machine."""

import hashlib

SIZE = 180
"""Workers, and jobs."""

COST_MAX = 1_000_000


def costs(chunk: int) -> list[list[int]]:
    """Rows are workers, columns are jobs; 0 to COST_MAX - 1."""
    data = hashlib.shake_256(f"assignment/{chunk}".encode()).digest(4 * SIZE * SIZE)
    numbers = [int.from_bytes(data[at : at + 4], "big") % COST_MAX for at in range(0, len(data), 4)]
    return [numbers[row * SIZE : (row + 1) * SIZE] for row in range(SIZE)]
