"""LBFGS, which calls a closure several times per step and keeps a history of directions."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(26)
t = torch.linspace(-3, 3, 300)[:, None]
signal = torch.sin(2 * t) + 0.3 * t + 0.05 * torch.randn(300, 1)
model = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=6, history_size=8, line_search_fn="strong_wolfe")
calls = 0
values = []


def closure():
    """The loss and its gradient."""
    global calls
    calls += 1
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(t), signal)
    loss.backward()
    return loss


for step in range(90):
    values.append(optimizer.step(closure).item())
    if step % 15 == 0:
        print(f"{step}: {values[-1]:.8f} after {calls} calls", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), values=values, calls=calls)
