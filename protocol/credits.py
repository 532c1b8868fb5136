"""Money as people write it: credits with at most six decimals, exact both ways.

Machines keep integer smallest units."""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import Refused
from protocol.units import CREDIT, Credits

_TEXT: Final = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")
_DECIMALS: Final = 6


def credits_text(amount: int) -> str:
    """An amount in smallest units as credits, without trailing zeros.

    >>> credits_text(1_250_000), credits_text(-7), credits_text(3_000_000)
    ('1.25', '-0.000007', '3')
    """
    whole, rest = divmod(abs(amount), CREDIT)
    decimals = f".{rest:0{_DECIMALS}d}".rstrip("0").rstrip(".")
    return f"{'-' if amount < 0 else ''}{whole}{decimals}"


def credits_from_text(text: str) -> Credits:
    """The inverse for amounts from zero up; `Refused` (`bad_amount`) for anything else.

    >>> credits_from_text("0.5")
    500000
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise Refused(
            f"{text[:40]!r} is no amount of credits",
            code="bad_amount",
            fix="Write credits with at most six decimals, like 0.5.",
        )
    return Credits(int(found[1]) * CREDIT + int((found[2] or "").ljust(_DECIMALS, "0")))
