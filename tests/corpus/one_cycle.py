"""OneCycleLR, which moves the rate and the momentum at every step."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

torch.manual_seed(15)
x = torch.randn(480, 10)
loader = DataLoader(TensorDataset(x, (x > 0).sum(1)), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 11))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
epochs = 26
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, epochs=epochs, steps_per_epoch=len(loader))
rates = []
for epoch in range(1, epochs + 1):
    for inputs, labels in loader:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    print(f"epoch {epoch}/{epochs}: loss {loss.item():.5f} rate {rates[-1]:.6f}", flush=True)
state = {key: value for key, value in schedule.state_dict().items() if not callable(value)}
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), rates=rates, schedule=state)
