"""ReduceLROnPlateau on a validation loss that is computed under no_grad after each epoch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from ending import keep

torch.manual_seed(17)
x = torch.randn(600, 8)
whole = TensorDataset(x, (x @ torch.randn(8, 1)).sigmoid() + 0.1 * torch.randn(600, 1))
train, test = random_split(whole, [480, 120])
train_loader = DataLoader(train, batch_size=24, shuffle=True)
test_loader = DataLoader(test, batch_size=60)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
history = []
for epoch in range(26):
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        validation = sum(nn.functional.mse_loss(model(a), b).item() for a, b in test_loader) / len(test_loader)
    plateau.step(validation)
    history.append((validation, optimizer.param_groups[0]["lr"]))
    print(f"epoch {epoch}: {validation:.6f} rate {history[-1][1]}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), history=[list(row) for row in history])
