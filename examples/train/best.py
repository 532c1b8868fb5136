"""Compare the runs of the sweep: the best model is returned, with a table of all of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path


def main() -> None:
    """Read `chunks/<i>/metrics.json`, write `best.safetensors` and `leaderboard.json`."""
    folder, out = Path(os.environ["SHOAL_IN"]) / "chunks", Path(os.environ["SHOAL_OUT"])
    runs = []
    for chunk in sorted(folder.iterdir(), key=lambda path: int(path.name)):
        figures = json.loads((chunk / "metrics.json").read_text())
        final_loss = figures["history"][-1]["loss"]
        runs.append(
            {
                "chunk": int(chunk.name),
                "lr": figures["lr"],
                "hidden": figures["hidden"],
                "accuracy": figures["accuracy"],
                "loss": final_loss,
            }
        )
    runs.sort(key=lambda run: (-run["accuracy"], run["loss"], run["chunk"]))
    for place, run in enumerate(runs, 1):
        print(
            f"{place}. accuracy {run['accuracy']:.4f}  lr {run['lr']:g}  hidden {run['hidden']}  (chunk {run['chunk']})"
        )
    shutil.copyfile(folder / str(runs[0]["chunk"]) / "model.safetensors", out / "best.safetensors")
    (out / "leaderboard.json").write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
