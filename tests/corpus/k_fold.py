"""Cross validation: a new model and optimizer per fold, scores gathered over all."""

import numpy as np
import torch
from torch import nn

from ending import keep


def folds(count, parts, rng):
    """(train rows, test rows) of each fold."""
    blocks = np.array_split(rng.permutation(count), parts)
    return [(np.concatenate(blocks[:i] + blocks[i + 1 :]), blocks[i]) for i in range(parts)]


def build():
    """A fresh model with its optimizer."""
    model = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
    return model, torch.optim.Adam(model.parameters(), lr=4e-3)


torch.manual_seed(39)
rng = np.random.default_rng(39)
x = torch.randn(300, 7)
y = (x[:, 0] * x[:, 1] > 0).long()
scores, states = [], {}
for fold, (train, test) in enumerate(folds(300, 5, rng)):
    model, optimizer = build()
    for epoch in range(10):
        model.train()
        for rows in np.array_split(rng.permutation(train), 12):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        scores.append((model(x[test]).argmax(1) == y[test]).double().mean().item())
    states[fold] = model.state_dict()
    print(f"fold {fold}: {scores[-1]:.4f}", flush=True)
keep(states=states, optimizer=optimizer.state_dict(), scores=scores, next_draw=float(rng.random()))
