"""No library at all: a Metropolis walk over a ring of spins in plain Python, with its own random.Random."""

import json
import math
import os
import random
from pathlib import Path

OUT = Path(os.environ.get("SHOAL_OUT", "out"))
random.seed(34)
dice = random.Random(34)
spins = [dice.choice((-1, 1)) for _ in range(64)]
energies, accepted = [], 0
histogram = {}
for sweep in range(9000):
    for _ in range(64):
        at = dice.randrange(64)
        gain = 2 * spins[at] * (spins[at - 1] + spins[(at + 1) % 64])
        if gain <= 0 or dice.random() < math.exp(-gain / 1.5):
            spins[at] = -spins[at]
            accepted += 1
    energy = -sum(a * b for a, b in zip(spins, spins[1:] + spins[:1]))
    histogram[energy] = histogram.get(energy, 0) + 1
    energies.append(energy + random.random() * 1e-6)
    if sweep % 1500 == 0:
        print(f"sweep {sweep}: energy {energy} accepted {accepted}", flush=True)
OUT.mkdir(parents=True, exist_ok=True)
final = {
    "spins": spins,
    "accepted": accepted,
    "mean": sum(energies) / len(energies),
    "histogram": sorted(histogram.items()),
    "random": [dice.random(), random.random()],
}
(OUT / "final.json").write_text(json.dumps(final, indent=1) + "\n", encoding="utf-8")
