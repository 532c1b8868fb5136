"""Loops three deep over lists, ranges and tuples: a grid of settings, each trained from the start."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(6)
x = torch.randn(256, 8)
y = (x.sum(1) > 0).long()
results, kept = {}, {}
for width in [16, 32, 48]:
    for rate in (0.01, 0.03):
        model = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
        for epoch in range(18):
            correct = 0
            for start in range(0, 256, 32):
                inputs, labels = x[start : start + 32], y[start : start + 32]
                scores = model(inputs + 0.01 * torch.randn_like(inputs))
                loss = nn.functional.cross_entropy(scores, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                correct += (scores.argmax(1) == labels).sum().item()
            if correct == 256:
                break
        results[f"{width}/{rate}"] = [epoch, correct, loss.item()]
        print(f"width {width} rate {rate}: {correct} of 256 after epoch {epoch}", flush=True)
    kept[width] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
keep(kept=kept, results=results, optimizer=optimizer.state_dict())
