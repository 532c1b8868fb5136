"""An ordinary PyTorch script: a small transformer learns to add, character by character.

Nothing in it knows about the network that runs it, and nothing in it saves a checkpoint. `python train.py` works on any
machine; pull the plug of the one that runs it, and another goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SIGNS = "0123456789+=."
LENGTH = 12
"""`37+48=85.` and shorter ones, filled up with dots."""


class Adder(nn.Module):
    """Two layers that look back, one guess per character."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.signs = nn.Embedding(len(SIGNS), width)
        self.places = nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.05, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.guess = nn.Linear(width, len(SIGNS))

    def forward(self, signs: torch.Tensor) -> torch.Tensor:
        """`signs`: (batch, length) numbers of characters. Returns (batch, length, characters) scores of the next."""
        length = signs.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        seen = self.signs(signs) + self.places(torch.arange(length))
        return self.guess(self.layers(seen, mask=mask, is_causal=True))


def sums(count: int) -> torch.Tensor:
    """Random sums as (count, LENGTH) numbers of characters."""
    rows = []
    for _ in range(count):
        a, b = random.randrange(100), random.randrange(100)
        text = f"{a}+{b}={a + b}".ljust(LENGTH, ".")
        rows.append([SIGNS.index(sign) for sign in text])
    return torch.tensor(rows)


def main() -> None:
    """Train, print a line now and then, save the weights and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model = Adder(args.width, heads=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=args.steps)
    history = []
    mean = 0.0
    for step in range(1, args.steps + 1):
        batch = sums(args.batch)
        scores = model(batch[:, :-1])
        loss = nn.functional.cross_entropy(scores.reshape(-1, len(SIGNS)), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step, 100)
        if step % 100 == 0:
            history.append({"step": step, "loss": round(mean, 6)})
            print(f"step {step:5d}/{args.steps}  loss {mean:.4f}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), args.out / "adder.safetensors")
    (args.out / "history.json").write_text(json.dumps(history, indent=1) + "\n")


if __name__ == "__main__":
    main()
