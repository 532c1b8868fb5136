"""A script that saves by itself: last.pt after every epoch by rename, taken in at the start where there is one."""

import json

import torch
from torch import nn

from ending import OUT, keep


def save(path, **parts):
    """Complete or not at all."""
    torch.save(parts, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


torch.manual_seed(50)
OUT.mkdir(parents=True, exist_ok=True)
x = torch.randn(300, 9)
y = (x @ torch.randn(9, 4)).argmax(1)
model = nn.Sequential(nn.Linear(9, 40), nn.ReLU(), nn.Linear(40, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
begin, history = 0, []
if (OUT / "last.pt").exists():
    found = torch.load(OUT / "last.pt", weights_only=False)
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["stream"])
    begin, history = found["epoch"] + 1, found["history"]
for epoch in range(begin, 28):
    for rows in torch.randperm(300).split(20):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    history.append(loss.item())
    save(
        OUT / "last.pt",
        epoch=epoch,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        history=history,
        stream=torch.get_rng_state(),
    )
    (OUT / "history.json").write_text(json.dumps(history) + "\n", encoding="utf-8")
    if epoch % 7 == 0:
        print(f"epoch {epoch}: {loss.item():.6f}", flush=True)
(OUT / "last.pt").unlink()
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), history=history)
