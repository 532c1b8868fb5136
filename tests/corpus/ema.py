"""Two running averages of the weights: torch's AveragedModel and one written by hand in a dict."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ending import keep

torch.manual_seed(18)
x = torch.randn(400, 10)
y = x.roll(1, 1).cumsum(1)
model = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.BatchNorm1d(48), nn.Linear(48, 10))
averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
shadow = {name: value.detach().clone() for name, value in model.named_parameters()}
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(550):
    rows = torch.randint(0, 400, (40,))
    loss = nn.functional.mse_loss(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    averaged.update_parameters(model)
    with torch.no_grad():
        for name, value in model.named_parameters():
            shadow[name].mul_(0.99).add_(value, alpha=0.01)
    if step % 100 == 0:
        print(f"{step}: {loss.item():.6f}", flush=True)
keep(model=model.state_dict(), averaged=averaged.state_dict(), shadow=shadow, optimizer=optimizer.state_dict())
