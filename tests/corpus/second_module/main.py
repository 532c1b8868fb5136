"""The trainer lives in a module of its own, imported from beside the script."""

import torch
from engine import Engine
from torch import nn

from ending import keep


def main():
    """Build and train."""
    torch.manual_seed(11)
    x = torch.randn(320, 6)
    samples = list(zip(x, torch.sin(x)))
    model = nn.Sequential(nn.Linear(6, 48), nn.SiLU(), nn.Linear(48, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, amsgrad=True)
    engine = Engine(model, optimizer, nn.MSELoss())
    last = engine.run(samples, 25)
    keep(model=model.state_dict(), optimizer=optimizer.state_dict(), last=last, state=engine.state)


if __name__ == "__main__":
    main()
