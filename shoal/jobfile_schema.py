"""How the quantities of a job file are read: sizes, spans, money, shares. Every refusal names its place and key."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from protocol.jobspec import PORTS_MAX
from protocol.units import CREDIT, PPM, SECOND, Credits, Micros
from protocol.yaml_nodes import Node
from protocol.yaml_values import decimal, integer, is_number, items, mismatch, scalar, size_of

SPAN_UNITS: Final[dict[str, int]] = {
    "ms": 1_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
    "d": 86400 * SECOND,
}

_SPAN: Final = re.compile(r"(?:\d{1,12}(?:\.\d{1,6})?(?:ms|[smhd]))+")
_SPAN_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_SIZE_FORM: Final = "a size such as 512MB or 32GB"


def size(node: Node, key: str, smallest: int, largest: int) -> int:
    """Bytes of `32GB` or `32GB..` (at least), from smallest to largest."""
    text = scalar(node, key, _SIZE_FORM).strip()
    if ".." in text and not text.endswith(".."):
        raise mismatch(node, key, "one size, or a size and `..`", "A job states what it needs: write 16GB or 16GB.. .")
    number = size_of(text.removesuffix(".."))
    if number is None:
        raise mismatch(node, key, _SIZE_FORM)
    if not smallest <= number <= largest:
        raise mismatch(node, key, f"{smallest} to {largest} bytes")
    return number


def span(node: Node, key: str, smallest: Micros, largest: Micros) -> Micros:
    """Microseconds of `90s`, `2m`, `1h30m`, or of a bare number of seconds."""
    expected = "a time such as 90s, 2m or 1h30m"
    total = span_of(scalar(node, key, expected))
    if total is None:
        raise mismatch(node, key, expected)
    if not smallest <= total <= largest:
        raise mismatch(node, key, f"a time from {smallest / SECOND:g} s to {largest / SECOND:g} s")
    return total


def span_of(text: str) -> Micros | None:
    """Microseconds of a time as people write it; None when it is none.

    >>> span_of("1h30m"), span_of("0.5"), span_of("soon")
    (5400000000, 500000, None)
    """
    text = text.strip()
    if is_number(text):
        text += "s"
    if not _SPAN.fullmatch(text):
        return None
    return Micros(sum(int(Decimal(number) * SPAN_UNITS[unit]) for number, unit in _SPAN_PART.findall(text)))


def money(node: Node, key: str, smallest: int) -> Credits:
    """Smallest units of a decimal number of credits with at most six decimals."""
    expected = "credits such as 0.60, with at most six decimals"
    amount = decimal(node, key, expected) * CREDIT
    if amount != int(amount) or not smallest <= amount <= 2**62:
        raise mismatch(node, key, expected)
    return Credits(int(amount))


def share(node: Node, key: str) -> int:
    """Parts per million of a share from 0 to 1, or of a percentage such as 10%."""
    expected = "a share from 0 to 1, or a percentage such as 10%"
    text = scalar(node, key, expected).strip()
    number = text.removesuffix("%")
    if not is_number(number):
        raise mismatch(node, key, expected)
    ppm = Decimal(number) * PPM / (100 if text.endswith("%") else 1)
    if ppm > PPM or ppm != int(ppm):
        raise mismatch(node, key, expected)
    return int(ppm)


def ports(node: Node, key: str) -> tuple[int, ...]:
    """Port numbers of a list."""
    listed = items(node, key, "a list of port numbers such as [8888]")
    if len(listed) > PORTS_MAX:
        raise mismatch(node, key, f"at most {PORTS_MAX} ports")
    return tuple(integer(item, f"{key}[{index}]", 1, 65_535) for index, item in enumerate(listed))


def switch(node: Node, key: str) -> bool:
    """True or false."""
    text = scalar(node, key, "true or false").lower()
    if text not in ("true", "false"):
        raise mismatch(node, key, "true or false")
    return text == "true"
