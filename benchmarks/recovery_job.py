"""An ordinary script for the figures of recovery: a state of so many megabytes, a step every so often, without end.

Half of the state is frozen, as in a fine-tune; the other half and its momentum change with every step. Nothing in it
knows of snapshots.
"""

import argparse
import importlib
import json
import time
from pathlib import Path

torch = importlib.import_module("torch")  # Not a plain import: it is no dependency of who checks and measures.

WIDTH = 1024


def main() -> None:
    """Make the state, then step; the last line says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two steps")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--out", type=Path, default=Path("out"))
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = max(1, args.megabytes * 2**20 // (4 * 4 * WIDTH))
    frozen = torch.randn(2 * rows, WIDTH)
    layer = torch.nn.Linear(WIDTH, rows, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-4, momentum=0.9)
    loss = torch.zeros(())
    for _ in range(args.steps):
        batch = frozen[torch.randint(0, 2 * rows, (4,))]
        loss = layer(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(args.pause)
    args.out.mkdir(parents=True, exist_ok=True)
    said = {"loss": loss.item(), "sum": float(layer.weight.detach().double().sum())}
    (args.out / "end.json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
