"""`iter` and `next` by hand with `:=`, a `try` around every step, a dataclass that holds the run."""

from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep


@dataclass
class Run:
    """Where the training is."""

    epoch: int = 0
    step: int = 0
    refused: int = 0
    curve: list = field(default_factory=list)


def step(model, optimizer, batch):
    """One step; ValueError for a batch that is no good."""
    inputs, targets = batch
    if inputs.mean() > 0.25:
        raise ValueError("too bright")
    loss = nn.functional.l1_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


torch.manual_seed(40)
x = torch.randn(320, 5)
loader = DataLoader(TensorDataset(x, x.max(1, keepdim=True).values), batch_size=20, shuffle=True)
model = nn.Sequential(nn.Linear(5, 40), nn.ELU(), nn.Linear(40, 1))
optimizer = torch.optim.Adamax(model.parameters(), lr=4e-3)
run = Run()
while run.epoch < 28:
    stream = iter(loader)
    while (batch := next(stream, None)) is not None:
        try:
            run.curve.append(step(model, optimizer, batch))
            run.step += 1
        except ValueError:
            run.refused += 1
    run.epoch += 1
    if run.epoch % 7 == 0:
        print(f"epoch {run.epoch}: {run.curve[-1]:.6f}, {run.refused} refused", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), run=asdict(run))
