"""The Hungarian method with potentials: one worker after the other, by the cheapest path of exchanges."""

import json
import os
from pathlib import Path

from costs import SIZE, costs

cost = costs(int(os.environ["SHOAL_CHUNK"]))
worker_price, job_price = [0] * (SIZE + 1), [0] * (SIZE + 1)
worker_of = [0] * (SIZE + 1)
"""By job, from 1 on; 0 = nobody. Job 0 stands for the worker who is being placed."""

for worker in range(1, SIZE + 1):
    worker_of[0], job = worker, 0
    slack, before, seen = [10**12] * (SIZE + 1), [0] * (SIZE + 1), [False] * (SIZE + 1)
    while worker_of[job]:
        seen[job] = True
        row, step, following = worker_of[job], 10**12, 0
        for other in range(1, SIZE + 1):
            if seen[other]:
                continue
            reduced = cost[row - 1][other - 1] - worker_price[row] - job_price[other]
            if reduced < slack[other]:
                slack[other], before[other] = reduced, job
            if slack[other] < step:
                step, following = slack[other], other
        for other in range(SIZE + 1):
            if seen[other]:
                worker_price[worker_of[other]] += step
                job_price[other] -= step
            else:
                slack[other] -= step
        job = following
    while job:
        worker_of[job] = worker_of[before[job]]
        job = before[job]

plan = [0] * SIZE
for job in range(1, SIZE + 1):
    plan[worker_of[job] - 1] = job - 1
print(f"chunk {os.environ['SHOAL_CHUNK']}: {sum(cost[row][column] for row, column in enumerate(plan))}")
found = {"plan": plan, "workers": worker_price[1:], "jobs": job_price[1:]}
Path(os.environ["SHOAL_OUT"], "plan.json").write_text(json.dumps(found))
