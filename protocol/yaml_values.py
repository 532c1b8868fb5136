"""How the values of a YAML tree are read: words, numbers, lists, maps. Every refusal names its place and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final

from protocol.errors import Refused
from protocol.yaml_nodes import Items, Node, Pairs, Scalar, wrong

SIZE_UNITS: Final[dict[str, int]] = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
"""Powers of 1024, as Docker and dstack read the same letters; `GiB` is taken too."""

_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([KMGT]?)(i?)(B?)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d{1,18}(?:\.\d{1,18})?")
_BOOLEANS: Final = frozenset(["y", "yes", "n", "no", "true", "false", "on", "off"])
_NULLS: Final = frozenset(("", "~", "null"))


def found(node: Node) -> str:
    """What stands there, in words for an error."""
    if isinstance(node, Pairs):
        return "a map"
    if isinstance(node, Items):
        return "a list"
    if node.is_plain and node.text.lower() in _NULLS:
        return "nothing"
    text = node.text if len(node.text) <= 60 else node.text[:57] + "…"
    return f"`{text}`"


def mismatch(node: Node, key: str, expected: str, fix: str = "", code: str = "") -> Refused:
    """`expected …, found …` at the node."""
    return wrong(node.place, key, f"expected {expected}, found {found(node)}", fix or f"Write {expected}.", code=code)


def unknown(name: str, known: Collection[str], otherwise: str) -> str:
    """The did-you-mean for a word that is not among the known ones."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else otherwise


def pairs(node: Node, key: str, known: Collection[str] = (), hints: Mapping[str, str] | None = None) -> dict[str, Node]:
    """The entries of a map; with `known`, every other key is refused with a suggestion."""
    if not isinstance(node, Pairs):
        raise mismatch(node, key, "a map of `key: value`")
    for name, _ in node.values:
        full = f"{key}.{name.text}" if key else name.text
        if known and name.text not in known:
            hint = (hints or {}).get(name.text) or unknown(name.text, known, f"Known keys: {', '.join(sorted(known))}.")
            raise wrong(name.place, full, f"unknown key `{name.text:.60}`", hint, code="unknown_key")
    return {name.text: value for name, value in node.values}


def items(node: Node, key: str, expected: str) -> tuple[Node, ...]:
    """The values of a list."""
    if not isinstance(node, Items):
        raise mismatch(node, key, expected)
    return node.values


def scalar(node: Node, key: str, expected: str) -> str:
    """Text exactly as written; nothing, lists and maps are refused."""
    if not isinstance(node, Scalar) or (node.is_plain and node.text.lower() in _NULLS):
        raise mismatch(node, key, expected)
    return node.text


def word(node: Node, key: str, expected: str) -> str:
    """Text that is no boolean: YAML would read an unquoted `no` as false."""
    text = scalar(node, key, expected)
    if isinstance(node, Scalar) and node.is_plain and text.lower() in _BOOLEANS:
        raise mismatch(node, key, expected, f'Put it in quotes if you mean the text: "{text}".')
    return text


def integer(node: Node, key: str, smallest: int, largest: int) -> int:
    """A whole number within bounds."""
    expected = f"a whole number from {smallest} to {largest}"
    text = scalar(node, key, expected).replace("_", "")
    if not re.fullmatch(r"[0-9]{1,19}", text) or not smallest <= int(text) <= largest:
        raise mismatch(node, key, expected)
    return int(text)


def is_number(text: str) -> bool:
    """A plain decimal number that is not negative: no exponent, no NaN, no infinity."""
    return _NUMBER.fullmatch(text) is not None


def decimal(node: Node, key: str, expected: str) -> Decimal:
    """A plain decimal number that is not negative: no exponent, no NaN, no infinity."""
    text = scalar(node, key, expected)
    if not is_number(text):
        raise mismatch(node, key, expected)
    return Decimal(text)


def size_of(text: str) -> int | None:
    """Bytes of `512MB`, `1.5GiB`, `4096`; None when it is no size."""
    parts = _SIZE.fullmatch(text.strip())
    if parts is None or (parts[3] and not parts[2]):
        return None
    return int(Decimal(parts[1]) * SIZE_UNITS[(parts[2] + "B").upper() if parts[2] else ""])
