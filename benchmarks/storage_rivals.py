"""torch.save and torch.distributed.checkpoint.async_save of one state; bench_storage.py runs it by a Python with torch.

python storage_rivals.py FOLDER MIB REPS     one JSON line: seconds of each, by name
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path


def main(folder: Path, mib: int, reps: int) -> None:
    """Time each on the same tensors, the first time of each left out."""
    torch = importlib.import_module("torch")
    checkpoint = importlib.import_module("torch.distributed.checkpoint")
    torch.set_num_threads(1)
    count = mib * (1 << 20) // 12
    weight = torch.randn(count) * 0.02
    moment = torch.randn(count) * 1e-3
    flat = {"weight": weight, "exp_avg": moment, "exp_avg_sq": moment * moment}
    state = {
        f"{name}.{start}": tensor[start : start + (3 << 20)].clone()
        for name, tensor in flat.items()
        for start in range(0, count, 3 << 20)
    }
    target = folder / "dcp"

    def dcp() -> tuple[float, float]:
        start = time.perf_counter()
        future = checkpoint.async_save(state, checkpoint_id=str(target))
        stall = time.perf_counter() - start
        future.result()
        return stall, time.perf_counter() - start

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    seconds: dict[str, list[float]] = {"torch.save": [], "DCP async, stall": [], "DCP async, whole": []}
    for _ in range(reps + 1):
        seconds["torch.save"].append(timed(lambda: torch.save(state, folder / "state.pt")))
        shutil.rmtree(target, ignore_errors=True)
        stall, whole = dcp()
        seconds["DCP async, stall"].append(stall)
        seconds["DCP async, whole"].append(whole)
    print(json.dumps({name: found[1:] for name, found in seconds.items()}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
