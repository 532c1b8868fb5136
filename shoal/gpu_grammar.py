"""The GPU grammar `vendor:names:memory-range:count-range` in any order, as dstack reads it.

`nvidia` · `RTX4090` · `A10,A100` · `A100:80GB` · `24GB..` · `24GB..80GB:2` · `nvidia:24GB..:1`. A bare
number is a count.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from protocol.gpu_models import MODELS, VENDORS, canonical_name, vendor_of
from protocol.jobspec import GpuNeed
from protocol.yaml_nodes import Node, wrong
from protocol.yaml_values import mismatch, scalar, unknown

COUNT_MAX: Final = 64

GRAMMAR: Final = "a GPU such as RTX4090, A100:80GB, nvidia:24GB..:1 or 0 for none"

_COUNT: Final = re.compile(r"(\d{1,3})(?:\.\.(\d{0,3}))?")
_SIZE: Final = r"(\d{1,6}(?:\.\d{1,3})?)([MGT])i?B"
_MEMORY: Final = re.compile(rf"{_SIZE}(?:(\.\.)(?:{_SIZE})?)?|\.\.{_SIZE}", re.IGNORECASE)
_SMALLEST: Final = {"M": 10**6, "G": 10**9, "T": 10**12}
_LARGEST: Final = {"M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def read_gpu(node: Node, key: str) -> GpuNeed:
    """The need that the text states; `Refused` (code `unknown_gpu` or `bad_job_file`) at its place.

    A card "of 24 GB" has between 24·10⁹ bytes and 24·2³⁰: drivers show less than the box says (RTX 4090: 24564 MiB), so
    lower bounds count in powers of ten and upper bounds in powers of two.
    """
    text = scalar(node, key, GRAMMAR).replace(" ", "")
    vendor = ""
    names: tuple[str, ...] = ()
    memory: tuple[int, int] | None = None
    count: int | None = None
    for part in text.split(":"):
        if part.lower() in VENDORS and not vendor:
            vendor = part.lower()
        elif _COUNT.fullmatch(part) and count is None:
            count = _count(node, key, part)
        elif _MEMORY.fullmatch(part) and memory is None:
            memory = _memory(node, key, part)
        elif part and not names and not _MEMORY.fullmatch(part) and not _COUNT.fullmatch(part):
            names = tuple(_name(node, key, name, vendor) for name in part.split(","))
        else:
            raise mismatch(node, key, GRAMMAR, f"`{part}` is empty or the second of its kind.")
    makers = {vendor_of(name) for name in names}
    vendor = vendor or (makers.pop() if len(makers) == 1 else "")
    if count == 0:
        return GpuNeed()
    low, high = memory or (0, 0)
    return GpuNeed(vendor=vendor, names=names, memory_bytes_min=low, memory_bytes_max=high, count=count or 1)


def _count(node: Node, key: str, part: str) -> int:
    found = _COUNT.fullmatch(part)
    low, high = (int(found[1]), found[2]) if found else (0, None)
    if low > COUNT_MAX or (high and int(high) < low):
        raise mismatch(
            node, key, f"a count from 0 to {COUNT_MAX}, or a range such as 1..8", "Write the smaller number first."
        )
    return low


def _memory(node: Node, key: str, part: str) -> tuple[int, int]:
    """(smallest, largest) bytes of `24GB`, `24GB..`, `24GB..80GB` or `..80GB`; 0 = no bound."""
    found = _MEMORY.fullmatch(part)
    if found is None:
        raise mismatch(node, key, GRAMMAR)
    low_text, low_unit, dots, high_text, high_unit, only_text, only_unit = found.groups()
    if only_text:
        return 0, int(Decimal(only_text) * _LARGEST[only_unit.upper()])
    low = int(Decimal(low_text) * _SMALLEST[low_unit.upper()])
    if not dots:
        return low, int(Decimal(low_text) * _LARGEST[low_unit.upper()])
    high = int(Decimal(high_text) * _LARGEST[high_unit.upper()]) if high_text else 0
    if high and high < low:
        raise mismatch(node, key, "a range of memory from small to large", "Write the smaller size first.")
    return low, high


def _name(node: Node, key: str, name: str, vendor: str) -> str:
    canonical = canonical_name(name)
    maker = vendor_of(canonical)
    known = [model for models in MODELS.values() for model in models]
    if not maker:
        hint = unknown(canonical or name, known, "Leave the name out and ask for memory, such as 24GB.. .")
        raise wrong(node.place, key, f"unknown GPU `{name:.60}`", hint, code="unknown_gpu")
    if vendor and maker != vendor:
        raise wrong(
            node.place,
            key,
            f"{canonical} is made by {maker}, not by {vendor}",
            f"Write {maker}:{canonical}.",
            code="unknown_gpu",
        )
    return canonical
