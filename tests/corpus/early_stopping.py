"""Early stopping: the best weights are copied aside and put back when patience is over."""

import copy

import torch
from torch import nn

from ending import keep

torch.manual_seed(25)
x, x_test = torch.randn(200, 20), torch.randn(100, 20)
w = torch.randn(20, 1)
y, y_test = x @ w + 2 * torch.randn(200, 1), x_test @ w + 2 * torch.randn(100, 1)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
best, best_state, patience, waited = float("inf"), None, 25, 0
for epoch in range(1000):
    for rows in torch.randperm(200).split(25):
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        score = nn.functional.mse_loss(model(x_test), y_test).item()
    if score < best:
        best, waited = score, 0
        best_state = copy.deepcopy(model.state_dict())
    else:
        waited += 1
        if waited >= patience:
            print(f"stopped after epoch {epoch}, best {best:.6f}", flush=True)
            break
    if epoch % 10 == 0:
        print(f"epoch {epoch}: {score:.6f}", flush=True)
last = {name: value.clone() for name, value in model.state_dict().items()}
model.load_state_dict(best_state)
keep(model=model.state_dict(), last=last, best=best, epoch=epoch, waited=waited)
