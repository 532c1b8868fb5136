"""The formula of a chunk: random clauses of three literals that a hidden assignment satisfies."""

import hashlib

VARIABLES = 250
CLAUSES = 1000
"""Four clauses per variable: close to the ratio of 4.27 at which random formulas are hardest."""


def formula(chunk: int) -> list[tuple[int, int, int]]:
    """Clauses of literals: v + 1 for variable v, -(v + 1) for its opposite."""
    numbers = _numbers(f"sat/{chunk}")
    hidden = [next(numbers) % 2 for _ in range(VARIABLES)]
    clauses: list[tuple[int, int, int]] = []
    while len(clauses) < CLAUSES:
        one, two, three = (next(numbers) % VARIABLES for _ in range(3))
        signs = next(numbers)
        if len({one, two, three}) < 3:
            continue
        picked = [
            variable + 1 if signs >> place & 1 else -variable - 1 for place, variable in enumerate((one, two, three))
        ]
        if any((literal > 0) == bool(hidden[abs(literal) - 1]) for literal in picked):
            clauses.append((picked[0], picked[1], picked[2]))
    return clauses


def _numbers(seed: str):
    """Numbers of 32 bits without an end, the same on every machine."""
    block = 0
    while True:
        data = hashlib.shake_256(f"{seed}/{block}".encode()).digest(4096)
        yield from (int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))
        block += 1
