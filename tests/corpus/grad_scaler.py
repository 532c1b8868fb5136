"""A GradScaler that is on, and is given an overflow now and then: skipped steps, a scale that moves."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(13)
x = torch.randn(240, 20)
y = torch.randn(240, 1) + x[:, :1]
model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=15)
scales = []
for step in range(500):
    rows = torch.randint(0, 240, (24,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.mse_loss(model(x[rows]).float(), y[rows])
    if torch.rand(()).item() < 0.03:
        loss = loss * float("inf")
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
    scales.append(scaler.get_scale())
    if step % 100 == 0:
        print(f"{step}: scale {scales[-1]}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), scaler=scaler.state_dict(), scales=scales)
