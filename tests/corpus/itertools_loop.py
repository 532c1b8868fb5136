"""itertools: `islice`, `cycle`, `product` and `count` drive the training."""

import itertools

import torch
from torch import nn

from ending import keep

torch.manual_seed(8)
x = torch.randn(300, 9)
y = torch.cos(x).mean(1, keepdim=True)
parts = [(x[i : i + 30], y[i : i + 30]) for i in range(0, 300, 30)]
model = nn.Sequential(nn.Linear(9, 32), nn.Sigmoid(), nn.Linear(32, 1))
scores = []
for rate, momentum in itertools.product((0.02, 0.05), (0.0, 0.9)):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    for inputs, targets in itertools.islice(itertools.cycle(parts), 130):
        loss = (model(inputs + 0.02 * torch.randn_like(inputs)) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores.append(loss.item())
    print(f"rate {rate} momentum {momentum}: {loss.item():.6f}", flush=True)
for step in itertools.count(1):
    rows = torch.randint(0, 300, (40,))
    loss = (model(x[rows]) - y[rows]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step >= 300:
        break
print(f"{step} further steps: {loss.item():.6f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), scores=scores, step=step)
