"""A small GPT on characters: causal attention, tied weights, warm-up and cosine, clipped, sampled from at the end."""

import math

import torch
from torch import nn

from ending import keep

TEXT = "the sea gives and the sea takes, and whoever lives beside it learns to count the waves. " * 12


class Block(nn.Module):
    """Attention and a feed-forward part, both behind a norm."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(0.1))

    def forward(self, x):
        """One layer."""
        b, t, c = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(self.first(x)).split(c, 2))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.second(x))


class Gpt(nn.Module):
    """Token and position embeddings, blocks, a tied head."""

    def __init__(self, size, width=32, context=24):
        super().__init__()
        self.context = context
        self.token, self.place = nn.Embedding(size, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size, bias=False)
        self.head.weight = self.token.weight

    def forward(self, x):
        """Scores of the next character at every place."""
        return self.head(self.norm(self.blocks(self.token(x) + self.place.weight[: x.shape[1]])))


torch.manual_seed(29)
letters = sorted(set(TEXT))
data = torch.tensor([letters.index(letter) for letter in TEXT])
model = Gpt(len(letters))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
steps = 140
for step in range(steps):
    rate = 3e-3 * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    starts = torch.randint(0, len(data) - model.context - 1, (8,))
    x = torch.stack([data[i : i + model.context] for i in starts])
    y = torch.stack([data[i + 1 : i + model.context + 1] for i in starts])
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 35 == 0:
        print(f"step {step}: {loss.item():.5f} rate {rate:.6f}", flush=True)
model.eval()
line = data[:1][None]
with torch.no_grad():
    while line.shape[1] < 40:
        scores = model(line[:, -model.context :])[:, -1] / 0.8
        line = torch.cat([line, torch.multinomial(scores.softmax(-1), 1)], 1)
print("".join(letters[i] for i in line[0]), flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), line=line)
