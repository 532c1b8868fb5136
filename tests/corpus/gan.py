"""Two networks, two optimizers, steps in turn: a generator learns a ring of points."""

import math

import torch
from torch import nn

from ending import keep


def ring(count):
    """Points on a noisy circle."""
    angle = 2 * math.pi * torch.rand(count)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)


def main():
    """Train both."""
    torch.manual_seed(27)
    forger = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 2))
    judge = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(48, 1))
    forger_optimizer = torch.optim.Adam(forger.parameters(), lr=2e-3, betas=(0.5, 0.999))
    judge_optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    real, fake = torch.ones(48, 1), torch.zeros(48, 1)
    scores = []
    for step in range(300):
        for _ in range(2):
            judge_optimizer.zero_grad()
            made = forger(torch.randn(48, 4)).detach()
            judge_loss = criterion(judge(ring(48)), real) + criterion(judge(made), fake)
            judge_loss.backward()
            judge_optimizer.step()
        forger_optimizer.zero_grad()
        forger_loss = criterion(judge(forger(torch.randn(48, 4))), real)
        forger_loss.backward()
        forger_optimizer.step()
        scores.append((judge_loss.item(), forger_loss.item()))
        if step % 60 == 0:
            print(f"{step}: judge {scores[-1][0]:.5f} forger {scores[-1][1]:.5f}", flush=True)
    keep(
        forger=forger.state_dict(),
        judge=judge.state_dict(),
        forger_optimizer=forger_optimizer.state_dict(),
        judge_optimizer=judge_optimizer.state_dict(),
        scores=[list(pair) for pair in scores],
    )


if __name__ == "__main__":
    main()
