"""Whether a result is a model of its chunk's formula. Ends with 0 when it is."""

import os
import sys
from pathlib import Path

from formula import VARIABLES, formula

text = Path(os.environ["SHOAL_IN"], "result", "model.txt").read_bytes()
if len(text) != VARIABLES + 1 or set(text[:-1]) - set(b"01") or text[-1:] != b"\n":
    sys.exit("model.txt is no line of 0 and 1 for every variable")
broken = [
    clause
    for clause in formula(int(os.environ["SHOAL_CHUNK"]))
    if not any(text[abs(literal) - 1] == ord("1" if literal > 0 else "0") for literal in clause)
]
if broken:
    sys.exit(f"{len(broken)} clauses are not satisfied, {broken[0]} among them")
