"""The names that people give GPUs, and whether a card answers a need. Spec: specs/05-job.md.

A name is only a label: memory and measured figures count. Names here are the drivers' without maker and series words,
so that `NVIDIA GeForce RTX 4090`, `RTX 4090`, `rtx4090` and `4090` are one.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.jobspec import GpuNeed

VENDORS: Final = ("nvidia", "amd", "intel", "apple")

MODELS: Final[dict[str, tuple[str, ...]]] = {
    "nvidia": (
        *(
            "B300",
            "B200",
            "GB200",
            "GB300",
            "H200",
            "H100",
            "H800",
            "H20",
            "GH200",
            "A100",
            "A800",
            "A40",
            "A30",
            "A16",
        ),
        *("A10", "A10G", "A2", "L40S", "L40", "L4", "L20", "T4", "V100", "P100", "P40", "P4", "K80", "M60", "T4G"),
        *("RTX5090", "RTX5090D", "RTX5080", "RTX5070TI", "RTX5070", "RTX5060TI", "RTX5060", "RTX5050"),
        *("RTX4090", "RTX4090D", "RTX4080SUPER", "RTX4080", "RTX4070TISUPER", "RTX4070TI", "RTX4070SUPER", "RTX4070"),
        *("RTX4060TI", "RTX4060", "RTX4050", "RTX3090TI", "RTX3090", "RTX3080TI", "RTX3080", "RTX3070TI", "RTX3070"),
        *("RTX3060TI", "RTX3060", "RTX3050", "RTX2080TI", "RTX2080SUPER", "RTX2080", "RTX2070SUPER", "RTX2070"),
        *("RTX2060SUPER", "RTX2060", "GTX1660TI", "GTX1660SUPER", "GTX1660", "GTX1650", "GTX1080TI", "GTX1080"),
        *("GTX1070TI", "GTX1070", "GTX1060", "TITANRTX", "TITANV", "TITANXP", "RTXPRO6000", "RTXPRO5000", "RTXPRO4500"),
        *("RTXPRO4000", "RTX6000ADA", "RTX5880ADA", "RTX5000ADA", "RTX4500ADA", "RTX4000ADA", "RTX2000ADA"),
        *("RTXA6000", "RTXA5500", "RTXA5000", "RTXA4500", "RTXA4000", "RTXA2000", "RTX8000", "RTX6000", "RTX5000"),
        *("RTX4000", "GB10", "ORIN", "XAVIER"),
    ),
    "amd": (
        *("MI355X", "MI350X", "MI325X", "MI300X", "MI300A", "MI250X", "MI250", "MI210", "MI100", "MI60", "MI50"),
        *("RX9070XT", "RX9070", "RX9060XT", "RX7900XTX", "RX7900XT", "RX7900GRE", "RX7800XT", "RX7700XT", "RX7600XT"),
        *("RX7600", "RX6950XT", "RX6900XT", "RX6800XT", "RX6800", "RX6700XT", "RX6600XT", "RX6600", "W7900", "W7800"),
        *("W6800", "8060S", "890M", "780M"),
    ),
    "intel": ("MAX1550", "MAX1100", "FLEX170", "FLEX140", "B580", "B570", "A770", "A750", "A580", "A380", "B60", "B50"),
    "apple": (
        *("M1", "M1PRO", "M1MAX", "M1ULTRA", "M2", "M2PRO", "M2MAX", "M2ULTRA", "M3", "M3PRO", "M3MAX", "M3ULTRA"),
        *("M4", "M4PRO", "M4MAX", "M5"),
    ),
}
"""Models by maker, best first. An unknown name in a *job* is taken for misspelt; an *offer* may have any name."""

_VENDOR_OF: Final = {model: vendor for vendor, models in MODELS.items() for model in models}
_NOISE: Final = re.compile(
    r"\b(nvidia|geforce|quadro|tesla|amd|radeon|instinct|intel|arc|apple|graphics|gpu|generation|edition|data center)\b"
    r"|\b\d+ ?g[bi]?b?\b|\b(pcie|sxm\d?|hbm\d?e?|nvl|oam|laptop|mobile|workstation|blackwell|server)\b|\(.*?\)",
    re.IGNORECASE,
)


def canonical_name(text: str) -> str:
    """The one spelling of a model's name: upper case, without maker, memory and form factor.

    >>> canonical_name("NVIDIA GeForce RTX 4090"), canonical_name("NVIDIA H100 80GB HBM3"), canonical_name("4090")
    ('RTX4090', 'H100', 'RTX4090')
    """
    words = re.sub(r"[\s_]+", " ", text.strip())
    bare = re.sub(r"[^A-Z0-9]", "", _NOISE.sub(" ", words.replace("-", " ")).upper())
    if bare.isdigit() or re.fullmatch(r"\d{4}(TI|SUPER|TISUPER|D)", bare):
        bare = next((series + bare for series in ("RTX", "GTX") if series + bare in _VENDOR_OF), bare)
    return bare


def vendor_of(name: str) -> str:
    """The maker of a model by its canonical name; empty when the model is unknown."""
    return _VENDOR_OF.get(name, "")


def card_problem(need: GpuNeed, vendor: str, name: str, memory_bytes: int) -> str:
    """Why one card does not answer the need, with both figures; empty when it does. Bytes as the driver counts them."""
    if need.vendor and vendor.lower() != need.vendor:
        return f"made by {vendor or 'an unknown maker'}, wanted {need.vendor}"
    if need.names and canonical_name(name) not in need.names:
        return f"{canonical_name(name)} is none of {', '.join(need.names)}"
    if memory_bytes < need.memory_bytes_min:
        return f"{memory_bytes} bytes of memory, wanted at least {need.memory_bytes_min}"
    if need.memory_bytes_max and memory_bytes > need.memory_bytes_max:
        return f"{memory_bytes} bytes of memory, wanted at most {need.memory_bytes_max}"
    return ""
