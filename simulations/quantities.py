"""Quantities of a scenario: how `2h`, `64MiB`, `50Mbit`, `10%`, `poisson 20/h` are read and written again.

Readers take a YAML node and the path of its key, and refuse with file, line and key; writers give text that reads as
the same value. No exponents, no NaN, no infinity: what is read is a plain decimal number and a unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from protocol.units import CREDIT
from protocol.yaml_nodes import Items, Node
from protocol.yaml_values import is_number, items, mismatch, scalar, size_of, unknown, word
from simulations.scenario import NS

Plain = str | list["Plain"] | dict[str, "Plain"]
"""What YAML has: text, lists and maps."""

SPAN_MAX: Final = 366 * 86_400 * NS
"""A year, ns: more simulated time than anybody waits for."""
SIZE_MAX: Final = 1 << 50
RATE_MIN: Final = 1_000
"""1 kbit/s: below it somebody wrote kilobits for bits."""
RATE_MAX: Final = 10**13
"""10 Tbit/s: faster than any link that a provider has."""
SEED_MAX: Final = 2**63 - 1
SEEDS_MAX: Final = 10_000
PER_HOUR_MAX: Final = 10**7

_SPAN_UNITS: Final = {"d": 86_400 * NS, "h": 3_600 * NS, "m": 60 * NS, "s": NS, "ms": 10**6, "us": 10**3, "ns": 1}
_RATE_UNITS: Final = {"T": 10**12, "G": 10**9, "M": 10**6, "k": 10**3, "": 1}
_PER: Final[Mapping[str, Decimal]] = {"s": Decimal(3_600), "m": Decimal(60), "h": Decimal(1), "d": Decimal(1) / 24}
_DECIMAL: Final = r"\d{1,18}(?:\.\d{1,18})?"
_SPAN_PART: Final = re.compile(rf"({_DECIMAL})(ms|us|ns|[smhd])")
_SPAN: Final = re.compile(rf"(?:{_DECIMAL}(?:ms|us|ns|[smhd]))+")
_RATE: Final = re.compile(rf"({_DECIMAL})\s?([TGMk]?)(?:bit|bps)")
_FREQUENCY: Final = re.compile(rf"({_DECIMAL})\s?/\s?([smhd])")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One kind of value: what it looks like, how it is read, how it is written."""

    form: str
    read: Callable[[Node, str], object]
    write: Callable[[object], Plain]


def _quantity(form: str, parse: Callable[[str], object | None], write: Callable[[object], Plain]) -> Quantity:
    """A kind of value that is one piece of text; `parse` gives None for what it cannot read."""

    def read(node: Node, key: str) -> object:
        value = parse(scalar(node, key, form).strip())
        if value is None:
            raise mismatch(node, key, form)
        return value

    return Quantity(form, read, write)


# ── text -> number ───────────────────────────────────────────────────────────────────────────────────────────────────
def span_of(text: str) -> int | None:
    """Nanoseconds of `90s`, `1h30m`, `250us`, or of a bare number of seconds."""
    text = f"{text}s" if is_number(text) else text
    if not _SPAN.fullmatch(text):
        return None
    return sum(int(Decimal(number) * _SPAN_UNITS[unit]) for number, unit in _SPAN_PART.findall(text))


def share_of(text: str) -> float | None:
    """0..1 of `0.25` or `25%`."""
    number = text.removesuffix("%").rstrip()
    if not is_number(number):
        return None
    value = Decimal(number) / (100 if text.endswith("%") else 1)
    return float(value) if value <= 1 else None


def rate_of(text: str) -> int | None:
    """Bits per second of `50Mbit`, `1 Gbit`, `300kbps`; units are powers of 1000."""
    parts = _RATE.fullmatch(text)
    if parts is None:
        return None
    value = int(Decimal(parts[1]) * _RATE_UNITS[parts[2]])
    return value if RATE_MIN <= value <= RATE_MAX else None


def per_hour_of(text: str) -> float | None:
    """Times per hour of `20/h`, `3/m`, `0.5/s`."""
    parts = _FREQUENCY.fullmatch(text)
    if parts is None:
        return None
    value = Decimal(parts[1]) * _PER[parts[2]]
    return float(value) if 0 < value <= PER_HOUR_MAX else None


# ── number -> text ───────────────────────────────────────────────────────────────────────────────────────────────────
def decimal_text(value: object) -> str:
    """A float or int as the shortest plain decimal that reads as the same number."""
    assert isinstance(value, int | float)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def span_text(value: object) -> str:
    """Nanoseconds as `1h30m`, exactly."""
    assert isinstance(value, int)
    parts: list[str] = []
    for unit, length in _SPAN_UNITS.items():
        amount, value = divmod(value, length)
        parts += [f"{amount}{unit}"] if amount else []
    return "".join(parts) or "0s"


def rate_text(value: object) -> str:
    """Bits per second in the largest unit that divides them."""
    assert isinstance(value, int)
    unit, length = next((unit, length) for unit, length in _RATE_UNITS.items() if value % length == 0)
    return f"{value // length}{unit}bit"


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def span(smallest: int = 0) -> Quantity:
    """A time of at least `smallest` ns."""
    form = "a time such as 90s, 250ms or 1h30m" + (", more than none" if smallest else "") + ", at most a year"

    def parse(text: str) -> int | None:
        value = span_of(text)
        return value if value is not None and smallest <= value <= SPAN_MAX else None

    return _quantity(form, parse, span_text)


def size(smallest: int = 0) -> Quantity:
    """Bytes."""
    form = "a size such as 1KiB or 64MiB"

    def parse(text: str) -> int | None:
        value = size_of(text)
        return value if value is not None and smallest <= value <= SIZE_MAX else None

    return _quantity(form, parse, str)


def share() -> Quantity:
    """0..1."""
    return _quantity("a share from 0 to 1, or a percentage such as 10%", share_of, decimal_text)


def count(smallest: int, largest: int) -> Quantity:
    """A whole number within bounds; `_` may group digits."""

    def parse(text: str) -> int | None:
        digits = text.replace("_", "")
        if not re.fullmatch(r"[0-9]{1,19}", digits):
            return None
        return int(digits) if smallest <= int(digits) <= largest else None

    return _quantity(f"a whole number from {smallest} to {largest}", parse, str)


def number(smallest: float, largest: float, what: str = "a number") -> Quantity:
    """A decimal number within bounds; negative where the bounds allow it."""

    def parse(text: str) -> float | None:
        if not is_number(text.removeprefix("-")):
            return None
        value = float(Decimal(text))
        return value if smallest <= value <= largest else None

    return _quantity(f"{what} from {smallest:g} to {largest:g}", parse, decimal_text)


def seconds(*, is_signed: bool) -> Quantity:
    """A time kept as a number of seconds: `288s`, `-1h`."""

    def parse(text: str) -> float | None:
        is_negative = text.startswith("-")
        value = span_of(text.removeprefix("-"))
        if value is None or value > SPAN_MAX or (is_negative and not is_signed):
            return None
        return float(Decimal(value) / NS) * (-1 if is_negative else 1)

    form = "a time such as 2s" + (" or -288s" if is_signed else "")
    return _quantity(form, parse, lambda value: decimal_text(value) + "s")


def ppm() -> Quantity:
    """Parts per million, of either sign: `500ppm`."""

    def parse(text: str) -> float | None:
        bare = text.removesuffix("ppm").rstrip()
        return float(Decimal(bare)) if is_number(bare.removeprefix("-")) and abs(Decimal(bare)) < 10**6 else None

    return _quantity("a drift such as 500ppm or -20ppm", parse, lambda value: decimal_text(value) + "ppm")


def money() -> Quantity:
    """Credits -> smallest units."""

    def parse(text: str) -> int | None:
        value = Decimal(text) * CREDIT if is_number(text) else None
        return int(value) if value is not None and value == int(value) and value < 2**53 else None

    def write(value: object) -> str:
        assert isinstance(value, int)
        return format(Decimal(value) / CREDIT, "f")

    return _quantity("credits such as 0.50, with at most six decimals", parse, write)


def flag() -> Quantity:
    """Yes or no."""
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    return _quantity("true or false", lambda text: words.get(text.lower()), lambda value: str(value).lower())


def one_of(names: Collection[str]) -> Quantity:
    """A word of a list; another is refused with the nearest."""
    form = "one of " + ", ".join(names)

    def read(node: Node, key: str) -> object:
        text = scalar(node, key, form)
        if text not in names:
            raise mismatch(node, key, form, unknown(text, names, ""))
        return text

    return Quantity(form, read, str)


def name(what: str) -> Quantity:
    """A word with no spaces; whether it is known is found out later."""

    def read(node: Node, key: str) -> object:
        text = word(node, key, what)
        if not re.fullmatch(r"[\w./-]{1,200}", text):
            raise mismatch(node, key, what)
        return text

    return Quantity(what, read, str)


def text(longest: int) -> Quantity:
    """Anything written, up to so many characters."""
    form = f"text of at most {longest} characters"
    return _quantity(form, lambda value: value if len(value) <= longest else None, str)


def each(inner: Quantity, what: str, *, may_repeat: bool = False) -> Quantity:
    """A list of one kind."""

    def read(node: Node, key: str) -> object:
        values = [inner.read(item, f"{key}[{i}]") for i, item in enumerate(items(node, key, what))]
        for i, item in enumerate(items(node, key, what)):
            if not may_repeat and values[i] in values[:i]:
                raise mismatch(item, f"{key}[{i}]", "each value once", "Leave the repetition out.")
        return tuple(values)

    def write(value: object) -> list[Plain]:
        assert isinstance(value, tuple)
        return [inner.write(item) for item in value]

    return Quantity(what, read, write)


def seeds() -> Quantity:
    """`[1, 2, 3]` or `1..20`."""
    form = f"a list of whole numbers such as [1, 2, 3], or a range such as 1..20, at most {SEEDS_MAX}"
    listed = each(count(0, SEED_MAX), form)

    def read(node: Node, key: str) -> object:
        if isinstance(node, Items):
            if not 1 <= len(node.values) <= SEEDS_MAX:
                raise mismatch(node, key, form)
            return listed.read(node, key)
        low, dots, high = scalar(node, key, form).partition("..")
        is_range = dots and re.fullmatch(r"\d{1,18}", low) and re.fullmatch(r"\d{1,18}", high)
        if not is_range or not 0 <= int(high) - int(low) < SEEDS_MAX:
            raise mismatch(node, key, form, "A single seed is written [7].")
        return tuple(range(int(low), int(high) + 1))

    return Quantity(form, read, listed.write)
