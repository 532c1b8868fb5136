"""Whether a plan is a plan, and its prices prove that none is cheaper. Ends with 0 when both hold."""

import json
import os
import sys
from pathlib import Path

from costs import COST_MAX, SIZE, costs

FILE_BYTES_MAX = 64 * 1024
"""Three lists of SIZE numbers take 5 KiB."""

path = Path(os.environ["SHOAL_IN"], "result", "plan.json")
if path.stat().st_size > FILE_BYTES_MAX:
    sys.exit("plan.json is too large")
try:
    found = json.loads(path.read_bytes())
    plan, workers, jobs = found["plan"], found["workers"], found["jobs"]
except (ValueError, TypeError, KeyError, RecursionError):
    sys.exit("plan.json holds no plan")
bound = SIZE * COST_MAX
for numbers in (plan, workers, jobs):
    if not isinstance(numbers, list) or any(type(number) is not int or abs(number) > bound for number in numbers):
        sys.exit("plan.json holds something else than whole numbers")
if sorted(plan) != list(range(SIZE)) or len(workers) != SIZE or len(jobs) != SIZE:
    sys.exit("not every worker has one job, and every job one worker")
cost = costs(int(os.environ["SHOAL_CHUNK"]))
for row in range(SIZE):
    for column in range(SIZE):
        if workers[row] + jobs[column] > cost[row][column]:
            sys.exit(f"worker {row} and job {column} cost less than their prices: they prove nothing")
total = sum(cost[row][column] for row, column in enumerate(plan))
if total != sum(workers) + sum(jobs):
    sys.exit(f"the plan costs {total}, the prices prove {sum(workers) + sum(jobs)}")
