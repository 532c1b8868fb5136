"""`while step < steps`: no iterator at all, the counter is a plain variable."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(4)
x = torch.randn(400, 8)
y = torch.sin(x.sum(1, keepdim=True))
model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.5)
steps, step, seen = 800, 0, 0
best = float("inf")
while step < steps:
    rows = torch.randperm(400)[:50]
    loss = (model(x[rows]) - y[rows]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    seen += len(rows)
    best = min(best, loss.item())
    if step % 200 == 0:
        print(f"{step}: {loss.item():.6f} best {best:.6f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), step=step, seen=seen, best=best)
