"""tqdm bars around the epochs and the batches, with a postfix."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm, trange

from ending import keep

torch.manual_seed(41)
x = torch.randn(480, 8)
loader = DataLoader(TensorDataset(x, x.sin().sum(1, keepdim=True)), batch_size=24, shuffle=True)
model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
losses = []
for epoch in trange(24, desc="epochs"):
    bar = tqdm(loader, desc=f"epoch {epoch}", leave=False)
    for inputs, targets in bar:
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{loss.item():.4f}")
    if epoch % 6 == 0:
        tqdm.write(f"epoch {epoch}: {losses[-1]:.6f}")
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), losses=losses)
