"""WeightedRandomSampler over classes of very unequal size."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from ending import keep

torch.manual_seed(22)
x = torch.randn(500, 9)
y = (x[:, 0] > 1.2).long()
counts = torch.bincount(y)
sampler = WeightedRandomSampler((1.0 / counts.float())[y], num_samples=300, replacement=True)
loader = DataLoader(TensorDataset(x, y), batch_size=20, sampler=sampler)
model = nn.Sequential(nn.Linear(9, 40), nn.LeakyReLU(), nn.Linear(40, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
drawn = torch.zeros(2, dtype=torch.int64)
for epoch in range(30):
    for inputs, labels in loader:
        drawn += torch.bincount(labels, minlength=2)
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 6 == 0:
        print(f"epoch {epoch}: {loss.item():.6f} drawn {drawn.tolist()}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), drawn=drawn)
