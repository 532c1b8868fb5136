"""Mixed precision on the CPU: autocast to bfloat16, clipped gradients."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(12)
x = torch.randn(256, 32)
y = (x @ torch.randn(32, 6)).argmax(1)
model = nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 6))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
norms = []
for epoch in range(20):
    for batch in torch.randperm(256).split(16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.5f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), norms=norms)
