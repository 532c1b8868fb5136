"""WalkSAT: flip a variable of a broken clause, the one that breaks least, until nothing is broken."""

import os
import random
from pathlib import Path

from formula import VARIABLES, formula

RESTLESS = 0.5
"""Share of flips that take any variable of the clause, to get out of a valley."""

clauses = formula(int(os.environ["SHOAL_CHUNK"]))
dice = random.Random(7)
values = [dice.random() < 0.5 for _ in range(VARIABLES)]
found_in: list[list[int]] = [[] for _ in range(VARIABLES)]
for number, clause in enumerate(clauses):
    for literal in clause:
        found_in[abs(literal) - 1].append(number)


def true_in(clause: tuple[int, int, int]) -> int:
    """How many of its literals are true."""
    return sum(values[abs(literal) - 1] == (literal > 0) for literal in clause)


def breaks(variable: int) -> int:
    """Clauses that only this variable keeps true."""
    return sum(
        true_in(clauses[number]) == 1
        and any(abs(literal) - 1 == variable and values[variable] == (literal > 0) for literal in clauses[number])
        for number in found_in[variable]
    )


broken = {number for number, clause in enumerate(clauses) if not true_in(clause)}
flips = 0
while broken:
    clause = clauses[dice.choice(sorted(broken))]
    variables = [abs(literal) - 1 for literal in clause]
    chosen = dice.choice(variables) if dice.random() < RESTLESS else min(variables, key=breaks)
    values[chosen] = not values[chosen]
    flips += 1
    for number in found_in[chosen]:
        (broken.discard if true_in(clauses[number]) else broken.add)(number)
print(f"chunk {os.environ['SHOAL_CHUNK']}: a model after {flips} flips")
Path(os.environ["SHOAL_OUT"], "model.txt").write_text("".join("01"[value] for value in values) + "\n")
