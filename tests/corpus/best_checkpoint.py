"""Writes best.pt whenever the test loss falls, a log by appending, and takes best.pt back in at the end."""

import torch
from torch import nn

from ending import OUT, keep

torch.manual_seed(36)
OUT.mkdir(parents=True, exist_ok=True)
x = torch.randn(320, 8)
y = x.pow(3).mean(1, keepdim=True)
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
best = float("inf")
for epoch in range(60):
    for rows in torch.randperm(256).split(32):
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        score = nn.functional.mse_loss(model(x[256:]), y[256:]).item()
    if score < best:
        best = score
        torch.save({"epoch": epoch, "model": model.state_dict()}, OUT / "best.pt")
        with open(OUT / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"epoch {epoch}: {score!r}\n")
    if epoch % 10 == 0:
        print(f"epoch {epoch}: {score:.6f} best {best:.6f}", flush=True)
taken = torch.load(OUT / "best.pt", weights_only=True)
model.load_state_dict(taken["model"])
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), best=best, epoch=taken["epoch"])
