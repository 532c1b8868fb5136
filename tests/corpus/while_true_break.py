"""`while True` with `break` and `continue`; a `for` with `else` inside decides when it is enough."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(5)
x = torch.randn(320, 6)
y = (x[:, :1] * x[:, 1:2]).tanh()
model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 1))
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
rounds = skipped = 0
history = []
while True:
    rounds += 1
    if torch.rand(()).item() < 0.05:
        skipped += 1
        continue
    for batch in torch.randperm(320).split(32):
        loss = (model(x[batch]) - y[batch]).square().mean()
        if not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    else:
        history.append(loss.item())
    if len(history) % 20 == 0:
        print(f"round {rounds}: {history[-1]:.6f}", flush=True)
    if len(history) >= 90:
        break
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), rounds=rounds, skipped=skipped, history=history)
