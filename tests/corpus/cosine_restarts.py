"""CosineAnnealingWarmRestarts fed with fractions of an epoch, behind a warm-up of LambdaLR."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(16)
x = torch.randn(384, 12)
y = (x[:, :6] * x[:, 6:]).sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(12, 64), nn.SiLU(), nn.Linear(64, 1))
groups = [{"params": model[0].parameters(), "lr": 1e-3}, {"params": model[2].parameters(), "lr": 4e-3}]
optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
cosine = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4, T_mult=2)
seen = []
for epoch in range(26):
    order = torch.randperm(384)
    for index, rows in enumerate(order.split(24)):
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch < 2:
            warm.step()
        else:
            cosine.step(epoch - 2 + index / 16)
        seen.append([group["lr"] for group in optimizer.param_groups])
    print(f"epoch {epoch}: {loss.item():.5f} {seen[-1][0]:.6f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), seen=seen, t_cur=cosine.T_cur)
