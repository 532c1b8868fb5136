"""An owner's earnings explained: why a result was not paid, what is still held, and what the formulas would say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import msgspec

from shoal.output import money, pairs, time_text
from shoal.proof_text import fault_words


class RewardLine(TypedDict):
    """One line of the reward formula."""

    what: str
    amount: int
    force: str


class Earned(msgspec.Struct):
    """What is read of a line of `node.earnings`."""

    chunk: int
    job: str
    outcome: str
    code: str = ""
    sentence: str = ""
    fault: str = ""
    fix: str = ""
    held_until: int = 0
    appeal: str = ""
    reward: list[RewardLine] = []


class Quality(msgspec.Struct):
    """What is read of this node's quality of service."""

    score: float = 0.0
    tier: str = "none"
    results: int = 0
    results_min: int = 0
    parts: dict[str, float] = {}
    promises: dict[str, float] = {}


def earnings_text(answer: Mapping[str, object]) -> str:
    """Below the table: refused results in words, what is held, the newest reward line by line, quality of service."""
    lines = msgspec.convert(answer.get("lines", []), list[Earned])
    parts = [_refused(lines), _held(lines), _reward(lines), _quality(answer.get("quality"))]
    return "\n\n".join(part for part in parts if part)


def _refused(lines: list[Earned]) -> str:
    """Each code of a result that was not accepted once, with what to do."""
    found = {one.code: one for one in lines if one.outcome != "accept" and one.sentence}
    return "\n".join(f"{code}: {one.sentence}. {fault_words(one.fault)} {one.fix}" for code, one in found.items())


def _held(lines: list[Earned]) -> str:
    held = [one for one in lines if one.held_until]
    if not held:
        return ""
    last = max(one.held_until for one in held)
    appeals = sum(1 for one in held if one.appeal == "open")
    said = f"{len(held)} results are not final yet, the last until {time_text(last)} UTC"
    return said + (f"; {appeals} of them are under appeal" if appeals else "") + ". `shoal job evidence JOB --data DIR`"


def _reward(lines: list[Earned]) -> str:
    """The newest accepted result by the owner's formula."""
    newest = next((one for one in reversed(lines) if one.reward), None)
    if newest is None:
        return ""
    rows = [(one["what"], f"{money(one['amount'])}{_force(one['force'])}") for one in newest.reward]
    return f"the newest accepted result, chunk {newest.chunk}, by the formula:\n{pairs(rows)}"


def _force(force: str) -> str:
    return "  paid by the ledger" if force == "ledger" else "  shown; nobody pays it"


def _quality(plain: object) -> str:
    if not plain:
        return ""
    known = msgspec.convert(plain, Quality)
    parts = ", ".join(f"{name} {value:.2f}" for name, value in known.parts.items())
    if known.tier == "none":
        why = (
            f"no tier: {known.results} of {known.results_min} results"
            if known.results < known.results_min
            else "no tier"
        )
    else:
        said = ", ".join(f"{name} {value:g}" for name, value in known.promises.items())
        why = f"tier {known.tier}, which promises {said}"
    return f"quality of service {known.score:.3f} ({parts}); {why}"
