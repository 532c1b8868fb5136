"""The plainest loop: steps by `for … in range`, momentum, noise from an own torch.Generator."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(1)
noise = torch.Generator().manual_seed(7)
x = torch.randn(512, 16)
y = (x @ torch.randn(16, 4)).argmax(1)
model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
total = 0.0
for step in range(900):
    rows = torch.randint(0, 512, (64,))
    batch = x[rows] + 0.1 * torch.randn(64, 16, generator=noise)
    loss = nn.functional.cross_entropy(model(batch), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += loss.item()
    if step % 150 == 0:
        print(f"step {step} loss {loss.item():.5f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), total=total, noise=noise.get_state(), step=step)
