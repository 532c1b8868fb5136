"""Stochastic weight averaging: SequentialLR, then SWALR, then the norms are estimated anew by update_bn."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

torch.manual_seed(48)
x = torch.randn(400, 10)
loader = DataLoader(TensorDataset(x, (x.abs().sum(1) > 8).long()), batch_size=25, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
averaged = AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
parts = [LinearLR(optimizer, 0.1, total_iters=4), CosineAnnealingLR(optimizer, 12)]
schedule = SequentialLR(optimizer, parts, milestones=[4])
last = SWALR(optimizer, swa_lr=0.03, anneal_epochs=3)
rates = []
for epoch in range(26):
    for inputs, labels in loader:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch >= 16:
        averaged.update_parameters(model)
        last.step()
    else:
        schedule.step()
    rates.append(optimizer.param_groups[0]["lr"])
    print(f"epoch {epoch}: {loss.item():.6f} rate {rates[-1]:.5f}", flush=True)
update_bn(((inputs,) for inputs, _ in loader), averaged)
keep(model=model.state_dict(), averaged=averaged.state_dict(), optimizer=optimizer.state_dict(), rates=rates)
