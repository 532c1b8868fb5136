"""No class and no global: a factory whose inner functions share their variables by `nonlocal`."""

import torch
from torch import nn

from ending import keep


def make_trainer(model, rate):
    """(step, report): two functions over the same hidden state."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    count, smooth = 0, None
    lowest = [float("inf")]

    def step(inputs, targets):
        nonlocal count, smooth
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        count += 1
        smooth = loss.item() if smooth is None else 0.95 * smooth + 0.05 * loss.item()
        lowest[0] = min(lowest[0], loss.item())

    def report():
        return {"count": count, "smooth": smooth, "lowest": lowest[0], "optimizer": optimizer.state_dict()}

    return step, report


def main():
    """Train."""
    torch.manual_seed(46)
    x = torch.randn(300, 6)
    y = x.sort(1).values
    model = nn.Sequential(nn.Linear(6, 48), nn.Mish(), nn.Linear(48, 6))
    step, report = make_trainer(model, 2e-3)
    for epoch in range(30):
        for rows in torch.randperm(300).split(20):
            step(x[rows], y[rows])
        if epoch % 6 == 0:
            print(f"epoch {epoch}: {report()['smooth']:.6f}", flush=True)
    keep(model=model.state_dict(), report=report())


if __name__ == "__main__":
    main()
