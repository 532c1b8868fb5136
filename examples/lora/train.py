"""Teach a base model that stays as it is: thin matrices beside its attention weights, in units that can be replayed.

`model.safetensors` of the result holds A and B of every target, which is what `verifier.lora` checks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import adder
import numpy as np
import numpy.typing as npt
import shoal_work
import torch
from shoal_work.plan import Plan
from shoal_work.training import TorchTraining, tensors_of

TARGETS = tuple(f"layer{layer}.{name}.weight" for layer in range(adder.LAYERS) for name in ("query", "value"))
"""Weights that get a delta."""
RANK = int(os.environ.get("RANK", "4"))
ALPHA = int(os.environ.get("ALPHA", "8"))


class Delta(TorchTraining):
    """The parameters are A and B alone; the base model is no part of any state, and is named by its digest."""

    base: Mapping[str, torch.Tensor] = {}

    def parameters(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """A: integers over a power of two, so equal everywhere. B is zero: at first nothing is added."""
        found: dict[str, npt.NDArray[np.generic]] = {}
        for name in TARGETS:
            outputs, inputs = adder.shapes()[name]
            drawn = shoal_work.Dice(b"lora", name).integers(1 << 20, RANK * inputs)
            found[name + ".lora_A"] = ((drawn - (1 << 19)) / (1 << 21)).reshape(RANK, inputs).astype(np.float32)
            found[name + ".lora_B"] = np.zeros((outputs, RANK), np.float32)
        return found

    def loss(self, parameters: Mapping[str, torch.Tensor], records: npt.NDArray[np.uint8]) -> torch.Tensor:
        kind = next(iter(parameters.values())).dtype
        weights = {name: value.to(kind) for name, value in self.base.items()}
        for name in TARGETS:
            delta = parameters[name + ".lora_B"] @ parameters[name + ".lora_A"]
            weights[name] = weights[name] + ALPHA / RANK * delta
        return adder.loss(weights, torch.from_numpy(records.astype(np.int64)))


def main() -> None:
    """Run or replay, as the node asks."""
    job = Delta(Plan.from_environment(), "records.bin", "base.safetensors")
    base = tensors_of(Path("base.safetensors"), os.environ["BASE_SHA256"])
    job.base = {name: torch.from_numpy(value) for name, value in base.items()}
    shoal_work.run(job)


if __name__ == "__main__":
    main()
