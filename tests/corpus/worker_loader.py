"""A shuffled loader with two worker processes that prefetch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep


def main():
    """Train."""
    torch.manual_seed(20)
    x = torch.randn(400, 10)
    loader = DataLoader(
        TensorDataset(x, (x @ torch.randn(10, 3)).argmax(1)), batch_size=20, shuffle=True, num_workers=2
    )
    model = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Dropout(0.1), nn.Linear(40, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for epoch in range(6):
        for inputs, labels in loader:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        print(f"epoch {epoch}: {history[-1]:.6f}", flush=True)
    keep(model=model.state_dict(), optimizer=optimizer.state_dict(), history=history)


if __name__ == "__main__":
    main()
