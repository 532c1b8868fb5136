"""One finding of the doctor: what was looked at, how it stands, what was found, and what to do about it."""

from __future__ import annotations

from typing import Final, Literal, TypedDict

Status = Literal["ok", "warn", "fail"]


class Check(TypedDict):
    """One line of the report."""

    name: str
    status: Status
    detail: str
    fix: str


FIRST: Final = (
    "address", "identity", "key in use twice", "clock", "route", "bootstrap", "reachability", "router", "clock skew",
)  # fmt: skip
"""What hides everything behind it comes first: without a route no bootstrap answers, unseen nobody sends work."""


def check(name: str, status: Status, detail: str, fix: str = "") -> Check:
    """A finding."""
    return {"name": name, "status": status, "detail": detail, "fix": fix}


def fix_first(checks: list[Check]) -> str:
    """The one thing to fix: the gravest finding's remedy, of equals the one that others depend on. Empty: nothing.

    >>> fix_first([check("router", "warn", "closed", "Open it."), check("disk", "fail", "full", "Free some.")])
    'Free some.'
    """
    wrong = [found for found in checks if found["status"] != "ok" and found["fix"]]
    grave = [found for found in wrong if found["status"] == "fail"]
    return min(grave or wrong, key=_rank)["fix"] if wrong else ""


def _rank(found: Check) -> int:
    place = [number for number, start in enumerate(FIRST) if f"{found['name']} ".startswith(f"{start} ")]
    return place[0] if place else len(FIRST)
