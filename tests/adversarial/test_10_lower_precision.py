"""Attack 10: the job says fp32, or fp64 on a grid, and is computed in bfloat16, int8 or int4.

In the bitwise class every one of them has other bytes. Within a tolerance bfloat16 and int4 are rejected; int8 is a
documented grey zone, because how far it is from fp32 depends on the model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from node.guest.work.training import Floats, Named
from tests.adversarial import small_training as small
from verifier import tensors
from verifier.score import ACCEPT

DOCUMENT = Path(__file__).parents[2] / "docs" / "honest-matrix.md"


class Coarse(small.Small):
    """Weights with fewer bits."""

    bits = 16

    def gradients(self, parameters: Named, records: npt.NDArray[np.uint8]) -> tuple[float, Named]:
        return super().gradients({name: self.coarse(value) for name, value in parameters.items()}, records)

    def coarse(self, value: Floats) -> Floats:
        if self.bits == 16:
            halved = (value.astype(np.float32).view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
            return halved.view(np.float32).astype(value.dtype)
        size = np.abs(value).max() / (2 ** (self.bits - 1) - 1) + 1e-30
        rounded: Floats = (np.rint(value / size) * size).astype(value.dtype)
        return rounded


def cheat(folder: Path, optimizer: str, numeric: str, bits: int) -> Coarse:
    made = small.work(folder, optimizer, numeric, Coarse)
    assert isinstance(made, Coarse)
    made.bits = bits
    return made


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_the_bitwise_class_sees_any_of_them(optimizer: str, bits: int, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer, "D1"), 2)
    claimed, _ = small.unit(cheat(tmp_path, optimizer, "D1", bits), states[1], 1)
    assert tensors.encode(claimed) != tensors.encode(states[2])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("bits", [16, 4])
def test_within_a_tolerance_bfloat16_and_int4_are_rejected(optimizer: str, bits: int, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer), 2)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[1], 1)
    claimed = small.unit(cheat(tmp_path, optimizer, "D3", bits), states[1], 1)
    code, ppm = small.verdict(states[1], claimed, replayed, optimizer)
    assert code == "gradient_differs"
    assert ppm < 500_000


def test_int8_is_documented_as_a_grey_zone() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "int8 is a grey zone" in text
    assert "| 10 int8 weights |" in text


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_bitwise_class_gives_two_machines_the_same_bytes(optimizer: str, tmp_path: Path) -> None:
    states, _ = small.chain(small.work(tmp_path, optimizer, "D1"), 4)
    twins, _ = small.chain(small.work(tmp_path, optimizer, "D1", small.Twin), 4)
    assert [tensors.encode(state) for state in states] == [tensors.encode(state) for state in twins]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_full_precision_is_accepted(optimizer: str, tmp_path: Path) -> None:
    states, told = small.chain(small.work(tmp_path, optimizer), 2)
    replayed = small.unit(small.work(tmp_path, optimizer, kind=small.Twin), states[1], 1)
    code, ppm = small.verdict(states[1], (states[2], told[1]), replayed, optimizer)
    assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
