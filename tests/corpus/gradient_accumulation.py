"""Four batches per step: between two steps half-summed gradients are state as well."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep

torch.manual_seed(14)
x = torch.randn(528, 16)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True).tanh()), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
every, micro, steps = 4, 0, 0
optimizer.zero_grad()
for epoch in range(20):
    for inputs, targets in loader:
        loss = nn.functional.mse_loss(model(inputs), targets) / every
        loss.backward()
        micro += 1
        if micro % every == 0:
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    print(f"epoch {epoch}: {loss.item() * every:.6f} after {steps} steps", flush=True)
grads = {name: parameter.grad for name, parameter in model.named_parameters()}
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), grads=grads, micro=micro, steps=steps)
