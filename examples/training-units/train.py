"""Fine-tune the small transformer in units that anybody can replay: what the job's sandbox runs."""

from __future__ import annotations

from collections.abc import Mapping

import adder
import numpy as np
import numpy.typing as npt
import shoal_work
import torch
from shoal_work.plan import Plan
from shoal_work.training import TorchTraining


class Adder(TorchTraining):
    """Loss of the next character. The order of the records is not ours to choose."""

    def loss(self, parameters: Mapping[str, torch.Tensor], records: npt.NDArray[np.uint8]) -> torch.Tensor:
        return adder.loss(parameters, torch.from_numpy(records.astype(np.int64)))


if __name__ == "__main__":
    shoal_work.run(Adder(Plan.from_environment(), "records.bin", "initial.safetensors"))
