"""Trains the two transformers of this example on prose and writes their weights as safetensors of 16-bit floats.

Ran once, on the specifications of this repository; what it wrote is published beside it and is what counts. A second
run on another processor gives other weights: nothing depends on their bits.

    PYTHONPATH=. python examples/inference-units/make_weights.py specs
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from node.guest.work.tensors import encode

CONTEXT: Final = 160
"""Characters of a prompt and its answer together."""
VOCAB: Final = 96
"""Printable ASCII, and the end of a line as token 95."""
SIZES: Final = {"large": (64, 2, 4), "small": (32, 1, 2)}
"""Name -> width, layers, heads."""


class Transformer(nn.Module):
    """Embeddings of tokens and places, attention and SiLU layers behind norms without gains, and a head."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.place = nn.Embedding(VOCAB, width), nn.Embedding(CONTEXT, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "qkv": nn.Linear(width, 3 * width, bias=False),
                "out": nn.Linear(width, width, bias=False),
                "up": nn.Linear(width, 4 * width, bias=False),
                "down": nn.Linear(4 * width, width, bias=False),
            })
            for _ in range(layers)
        )  # fmt: skip
        self.head = nn.Linear(width, VOCAB, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (batch, length, VOCAB) of tokens (batch, length)."""
        batch, length = tokens.shape
        flow = self.embed(tokens) + self.place.weight[:length]
        for layer in self.layers:
            parts = layer["qkv"](norm(flow)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
            flow = flow + layer["out"](seen.transpose(1, 2).reshape(batch, length, -1))
            flow = flow + layer["down"](functional.silu(layer["up"](norm(flow))))
        return self.head(norm(flow))


def norm(flow: torch.Tensor) -> torch.Tensor:
    """Every vector at a root mean square of one."""
    return flow * torch.rsqrt(flow.square().mean(-1, keepdim=True) + 1e-6)


def tokens_of(text: str) -> torch.Tensor:
    """Characters as tokens; what is no ASCII is left out."""
    return torch.tensor([95 if c == "\n" else ord(c) - 32 for c in text if c == "\n" or " " <= c <= "~"])


def train(text: torch.Tensor, width: int, layers: int, heads: int, steps: int = 3000) -> dict[str, torch.Tensor]:
    """Weights after `steps` batches of 48 windows."""
    torch.manual_seed(1)
    model = Transformer(width, layers, heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        starts = torch.randint(len(text) - CONTEXT - 1, (48,))
        windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])
        loss = functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"{width} wide, step {step}: loss {loss.item():.3f}", flush=True)
    names = {"embed": model.embed.weight, "place": model.place.weight, "head": model.head.weight}
    for number, layer in enumerate(model.layers):
        names |= {f"layer{number}.{name}": part.weight for name, part in layer.items()}
    weights = {name: value.detach().to(torch.float16).contiguous() for name, value in names.items()}
    return {**weights, "heads": torch.tensor([heads], dtype=torch.int32)}


def main() -> None:
    """Both sizes, beside this file."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(sys.argv[1]).glob("*.md")))
    for name, size in SIZES.items():
        weights = {key: value.numpy() for key, value in train(tokens_of(text), *size).items()}
        (Path(__file__).parent / f"{name}.safetensors").write_bytes(encode(weights))


if __name__ == "__main__":
    main()
