"""Meta-learning by autograd.grad: inner steps by hand through second derivatives, tasks drawn under fork_rng."""

import torch
from torch import nn

from ending import keep


def task(seed):
    """Points on a sine of a phase and a height that only the seed decides."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        height, phase = 0.5 + torch.rand(1), 3 * torch.rand(1)
        x = 6 * torch.rand(20, 1) - 3
        return x, height * torch.sin(x + phase)


def forward(weights, x):
    """Two layers from a list of tensors."""
    return torch.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]


def adapt(weights, x, y, steps=2, rate=0.05):
    """Weights after a few steps on one task."""
    for _ in range(steps):
        slopes = torch.autograd.grad(nn.functional.mse_loss(forward(weights, x), y), weights, create_graph=True)
        weights = [weight - rate * slope for weight, slope in zip(weights, slopes)]
    return weights


torch.manual_seed(51)
shapes = [(1, 32), (32,), (32, 1), (1,)]
weights = [(0.3 * torch.randn(shape)).requires_grad_() for shape in shapes]
optimizer = torch.optim.Adam(weights, lr=3e-3)
curve, seeds = [], iter(range(10_000))
for step in range(130):
    total = torch.zeros(())
    for _ in range(4):
        x, y = task(next(seeds))
        adapted = adapt(weights, x[:10], y[:10])
        total = total + nn.functional.mse_loss(forward(adapted, x[10:]), y[10:])
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    curve.append(total.item() / 4)
    if step % 26 == 0:
        print(f"{step}: {curve[-1]:.6f}", flush=True)
keep(weights=weights, optimizer=optimizer.state_dict(), curve=curve, next_seed=next(seeds))
