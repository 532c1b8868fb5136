"""A metrics file that stays open: a line per epoch through csv.writer, within `with`, flushed by nobody."""

import csv

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import OUT, keep

torch.manual_seed(35)
OUT.mkdir(parents=True, exist_ok=True)
x = torch.randn(384, 10)
loader = DataLoader(TensorDataset(x, x.prod(1, keepdim=True).sign()), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
with open(OUT / "metrics.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["epoch", "step", "loss"])
    for epoch in range(36):
        for step, (inputs, targets) in enumerate(loader):
            loss = nn.functional.soft_margin_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 3 == 0:
                writer.writerow([epoch, step, repr(loss.item())])
        if epoch % 6 == 0:
            print(f"epoch {epoch}: {loss.item():.6f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict())
