"""Batches come out of a generator function of the script, which shuffles with NumPy and remembers a carry-over."""

import numpy as np
import torch
from torch import nn

from ending import keep


def batches(x, y, size, rng):
    """Whole batches; what is left over opens the next epoch."""
    left = np.empty(0, dtype=np.int64)
    while True:
        order = np.concatenate([left, rng.permutation(len(x))])
        whole = len(order) // size * size
        for start in range(0, whole, size):
            rows = order[start : start + size]
            yield x[rows], y[rows]
        left = order[whole:]


torch.manual_seed(7)
rng = np.random.default_rng(7)
x = torch.randn(250, 10)
y = x.pow(2).sum(1, keepdim=True) / 10
model = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
done, total = 0, 0.0
for inputs, targets in batches(x, y, 32, rng):
    loss = nn.functional.huber_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    done += 1
    total += loss.item()
    if done % 150 == 0:
        print(f"{done}: {total / done:.6f}", flush=True)
    if done == 600:
        break
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), total=total, next_draw=rng.random())
