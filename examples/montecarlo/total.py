"""The last step: π from the totals of all chunks."""

import json
import math
import os
from pathlib import Path

totals = [json.loads(file.read_text())["total"] for file in Path(os.environ["SHOAL_IN"]).glob("chunks/*/total.json")]
hits, darts = (sum(total[column] for total in totals) for column in range(2))
pi = 4 * hits / darts
error = 4 * math.sqrt(hits / darts * (1 - hits / darts) / darts)
text = f"{pi:.5f}, give or take {error:.5f}, from {darts} darts"
Path(os.environ["SHOAL_OUT"], "pi.txt").write_text(text + "\n")
print(text)
