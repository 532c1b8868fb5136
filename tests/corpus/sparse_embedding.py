"""Skip-gram with negative samples: a sparse embedding, SparseAdam for it and Adagrad for the rest."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(47)
words = torch.randint(0, 200, (3000,)).sort().values[torch.randperm(3000)]
centre = nn.Embedding(200, 16, sparse=True)
around = nn.Embedding(200, 16)
fast = torch.optim.SparseAdam(centre.parameters(), lr=0.01)
slow = torch.optim.Adagrad(around.parameters(), lr=0.05)
weights = torch.bincount(words, minlength=200).float() ** 0.75
total, pairs = 0.0, 0
step = 0
while step < 350:
    at = torch.randint(2, 2998, (32,))
    near = words[at + torch.tensor([-2, -1, 1, 2])[torch.randint(0, 4, (32,))]]
    wrong = torch.multinomial(weights, 32 * 4, replacement=True).view(32, 4)
    vectors = centre(words[at])
    good = (vectors * around(near)).sum(1)
    bad = (around(wrong) @ vectors[:, :, None]).squeeze(2)
    loss = -(nn.functional.logsigmoid(good).mean() + nn.functional.logsigmoid(-bad).sum(1).mean())
    for optimizer in (fast, slow):
        optimizer.zero_grad()
    loss.backward()
    for optimizer in (fast, slow):
        optimizer.step()
    total, pairs, step = total + loss.item(), pairs + 32, step + 1
    if step % 70 == 0:
        print(f"{step}: {total / step:.6f} after {pairs} pairs", flush=True)
keep(
    centre=centre.state_dict(), around=around.state_dict(), fast=fast.state_dict(), slow=slow.state_dict(), total=total
)
