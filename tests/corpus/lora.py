"""LoRA: a small transformer is frozen, low-rank adapters and the head learn a new task."""

import math

import torch
from torch import nn

from ending import keep


class LoraLinear(nn.Module):
    """A frozen linear layer and a trainable product of two thin ones."""

    def __init__(self, inner, rank=4):
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, inner.in_features) / math.sqrt(inner.in_features))
        self.up = nn.Parameter(torch.zeros(inner.out_features, rank))

    def forward(self, x):
        """Both added."""
        return self.inner(x) + x @ self.down.T @ self.up.T


class Classifier(nn.Module):
    """Embedding, two encoder layers, a head over the mean."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(32, 32)
        layers = [nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True) for _ in range(2)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(32, 3)

    def forward(self, tokens):
        """Scores of three classes."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


torch.manual_seed(28)
model = Classifier().requires_grad_(False)
for layer in model.layers:
    layer.linear1 = LoraLinear(layer.linear1)
    layer.linear2 = LoraLinear(layer.linear2)
model.head.requires_grad_(True)
trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=5e-3)
tokens = torch.randint(0, 32, (192, 10))
labels = tokens.sum(1) % 3
seen = 0
for epoch in range(9):
    model.train()
    for batch in torch.randperm(192).split(16):
        loss = nn.functional.cross_entropy(model(tokens[batch]), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        seen += len(batch)
    print(f"epoch {epoch}: {loss.item():.5f}", flush=True)
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), seen=seen)
