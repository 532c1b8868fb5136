"""How records.bin and initial.safetensors were made: `PYTHONPATH=. python prepare.py` beside a copy of `shoal_work`.

The first weights have learned one-digit sums; the job goes on with two digits. They travel as bytes: numbers drawn by
torch's generators would differ between processors.
"""

from __future__ import annotations

from pathlib import Path

import adder
import numpy as np
import shoal_work
import torch
from shoal_work.records import root_of

SEED = b"examples/training-units"
RECORDS = 4_096
STEPS = 300
RATE = 5e-3


def main() -> None:
    """Write both files and print the root that job.yml names."""
    folder = Path(__file__).parent
    numbers = shoal_work.Dice(SEED, "records").integers(100, 2 * RECORDS).reshape(RECORDS, 2)
    rows = np.array([list(adder.record(int(a), int(b))) for a, b in numbers], np.uint8)
    (folder / "records.bin").write_bytes(rows.tobytes())
    torch.set_num_threads(1)
    weights = {}
    for name, shape in adder.shapes().items():
        drawn = shoal_work.Dice(SEED, name).uniform(int(np.prod(shape))).reshape(shape) * 2 - 1
        start = np.ones(shape) if name.endswith("gain") else drawn * 0.2 if len(shape) > 1 else np.zeros(shape)
        weights[name] = torch.from_numpy(start.astype(np.float32)).requires_grad_()
    small = [list(adder.record(a, b)) for a in range(10) for b in range(10)]
    optimizer = torch.optim.AdamW(weights.values(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = adder.loss(weights, torch.tensor(small))
        loss.backward()
        optimizer.step()
    print(f"loss on one-digit sums {loss.item():.3f}")
    arrays = {name: value.detach().numpy() for name, value in weights.items()}
    (folder / "initial.safetensors").write_bytes(shoal_work.encode(arrays))
    print("DATA_ROOT:", root_of(rows).hex())


if __name__ == "__main__":
    main()
