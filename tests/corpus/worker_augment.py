"""Two persistent workers that draw random numbers for every sample: their streams live in other processes."""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ending import keep


class Noisy(Dataset):
    """Samples are turned and shaken when they are asked for."""

    def __init__(self):
        self.x = torch.randn(240, 12)
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        row = self.x[index].roll(random.randrange(12)) if random.random() < 0.5 else self.x[index]
        return row + 0.1 * torch.randn(12), self.y[index]


if __name__ == "__main__":
    torch.manual_seed(21)
    loader = DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=3)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = []
    for epoch in range(14):
        for inputs, labels in loader:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        print(f"epoch {epoch}: {history[-1]:.6f}", flush=True)
    keep(model=model.state_dict(), optimizer=optimizer.state_dict(), history=history)
