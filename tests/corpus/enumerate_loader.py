"""`enumerate` over a shuffled DataLoader inside epochs; BatchNorm and Dropout."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

torch.manual_seed(2)
x = torch.randn(640, 12)
data = TensorDataset(x, (x @ torch.randn(12, 3)).argmax(1))
loader = DataLoader(data, batch_size=32, shuffle=True, drop_last=True)
model = nn.Sequential(nn.Linear(12, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
history = []
for epoch in range(24):
    running = 0.0
    for i, (inputs, labels) in enumerate(loader):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        running += loss.item() * (i + 1)
    history.append(running / len(loader))
    print(f"epoch {epoch}: {history[-1]:.5f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), history=history)
