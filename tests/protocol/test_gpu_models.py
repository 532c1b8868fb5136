"""protocol.gpu_models: the names that drivers report, and what answers a need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.gpu_models import MODELS, VENDORS, canonical_name, card_problem, vendor_of
from protocol.jobspec import GpuNeed

REPORTED = {
    "NVIDIA GeForce RTX 4090": "RTX4090",
    "NVIDIA GeForce RTX 4080 SUPER": "RTX4080SUPER",
    "NVIDIA GeForce RTX 3060 Ti": "RTX3060TI",
    "NVIDIA GeForce GTX 1080 Ti": "GTX1080TI",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100",
    "NVIDIA H200": "H200",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA A10G": "A10G",
    "NVIDIA L40S": "L40S",
    "Tesla T4": "T4",
    "Tesla V100-SXM2-16GB": "V100",
    "NVIDIA RTX A6000": "RTXA6000",
    "NVIDIA RTX 6000 Ada Generation": "RTX6000ADA",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTXPRO6000",
    "AMD Instinct MI300X": "MI300X",
    "AMD Radeon RX 7900 XTX": "RX7900XTX",
    "Intel Arc B580 Graphics": "B580",
    "Apple M3 Max": "M3MAX",
    "rtx4090": "RTX4090",
    "4090": "RTX4090",
    "1080ti": "GTX1080TI",
}


@pytest.mark.parametrize("reported", REPORTED)
def test_drivers_names_have_one_spelling(reported: str) -> None:
    assert canonical_name(reported) == REPORTED[reported]
    assert vendor_of(canonical_name(reported)) in VENDORS


def test_there_are_more_than_a_hundred_and_all_are_spelt_so() -> None:
    models = [model for listed in MODELS.values() for model in listed]
    assert len(models) > 100
    assert len(set(models)) == len(models)
    assert [model for model in models if canonical_name(model) != model] == []


@given(text=st.text(max_size=40))
def test_any_name_has_a_spelling(text: str) -> None:
    assert canonical_name(canonical_name(text)) == canonical_name(text)


def test_a_problem_has_both_figures() -> None:
    need = GpuNeed("nvidia", ("RTX4090",), 24 * 10**9, 24 << 30, 1)
    assert card_problem(need, "nvidia", "NVIDIA GeForce RTX 4090", 24564 << 20) == ""
    assert card_problem(need, "amd", "MI300X", 24564 << 20) == "made by amd, wanted nvidia"
    assert card_problem(need, "nvidia", "NVIDIA L4", 24 << 30) == "L4 is none of RTX4090"
    assert "wanted at least 24000000000" in card_problem(need, "nvidia", "RTX 4090", 16 << 30)
    assert "wanted at most 25769803776" in card_problem(need, "nvidia", "RTX 4090", 48 << 30)


@pytest.mark.parametrize(
    ("size", "mebibytes"),
    [
        (24, 24564),
        (24, 23034),
        (24, 24576),
        (80, 81559),
        (40, 40536),
        (141, 143771),
        (16, 15360),
        (48, 46068),
        (48, 49140),
    ],
)
def test_real_cards_have_the_size_on_the_box(size: int, mebibytes: int) -> None:
    need = GpuNeed(memory_bytes_min=size * 10**9, memory_bytes_max=size << 30, count=1)
    assert card_problem(need, "nvidia", "any", mebibytes << 20) == ""
