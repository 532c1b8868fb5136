"""Two shuffled loaders walked side by side with `zip`: labelled data and a consistency loss on the rest."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

torch.manual_seed(3)
x = torch.randn(256, 10)
labelled = TensorDataset(x, (x @ torch.randn(10, 4)).argmax(1))
unlabelled = TensorDataset(torch.randn(384, 10))
few = DataLoader(labelled, batch_size=16, shuffle=True)
many = DataLoader(unlabelled, batch_size=24, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
losses = []
for epoch in range(24):
    for (inputs, labels), (extra,) in zip(few, many):
        supervised = nn.functional.cross_entropy(model(inputs), labels)
        twice = (model(extra) - model(extra + 0.05 * torch.randn_like(extra))).pow(2).mean()
        loss = supervised + 0.3 * twice
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {sum(losses[-16:]) / 16:.5f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), losses=losses)
