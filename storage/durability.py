"""How likely is it that a pack is lost, and may it be called durable? Spec: specs/27-custody.md.

P(loss) is the chance that more than n−k of n holders are gone when they are needed. Nothing is called durable on hope:
the chance that one holder is gone is the upper end of what was measured, and the answer must be right ten times over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from protocol.snapshots import Purpose, required
from storage.erasure import ANCHOR, ANCHOR_WIDE, COPIES, ROLLING, Code

MARGIN: Final = 10
"""Times that a computed loss must stay below the target: holders do not fail independently."""

LOSS_MAX_ROLLING: Final = 1e-6
"""Chance of losing a rolling snapshot: the next one is a minute away."""

LOSS_MAX_ANCHOR: Final = 1e-9
"""Chance of losing what nothing else replaces."""

PRIOR_GONE: Final = 1.0
"""Failures assumed before anything was measured: with `PRIOR_SEEN`, one holder in twenty is gone."""

PRIOR_SEEN: Final = 20.0
"""Observations that the assumption is worth."""

CONFIDENCE_Z: Final = 1.645
"""Standard deviations: the true share lies below the bound in 19 of 20 cases."""

MANY_DOMAINS: Final = 40
"""Failure domains from which `ANCHOR_WIDE` is placed without taking nearly everybody."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be said about a pack, in plain words."""

    code: Code
    domains: int
    """Distinct failure domains that hold a shard."""
    loss: float
    """P(loss), at most, without the margin."""
    is_durable: bool
    text: str


def loss(code: Code, placed: int, gone: float) -> float:
    """P[Bin(placed, gone) > placed − k]: the chance that fewer than k of `placed` shards are left.

    >>> f"{loss(Code(8, 14), 14, 0.05):.0e}", f"{loss(Code(1, 3), 3, 0.02):.0e}"
    ('2e-06', '8e-06')
    """
    if placed < code.k:
        return 1.0
    chance = min(1.0, max(0.0, gone))
    least = placed - code.k + 1
    tail = math.fsum(
        math.comb(placed, lost) * chance**lost * (1.0 - chance) ** (placed - lost) for lost in range(least, placed + 1)
    )
    return min(1.0, tail)


def gone_at_most(failures: float, seen: float) -> float:
    """Upper bound (Wilson, one-sided 95 %) of the chance that a holder is gone, after `failures` of `seen` looks."""
    trials = seen + PRIOR_SEEN
    share = min(1.0, (failures + PRIOR_GONE) / trials)
    z2 = CONFIDENCE_Z * CONFIDENCE_Z
    centre = share + z2 / (2.0 * trials)
    spread = CONFIDENCE_Z * math.sqrt(share * (1.0 - share) / trials + z2 / (4.0 * trials * trials))
    return min(1.0, (centre + spread) / (1.0 + z2 / trials))


def target(purpose: Purpose) -> float:
    """The chance of loss that is allowed."""
    return LOSS_MAX_ROLLING if purpose == "rolling" else LOSS_MAX_ANCHOR


def is_safe(code: Code, placed: int, gone: float, purpose: Purpose) -> bool:
    """Whether the loss, `MARGIN` times over, stays below the target."""
    return MARGIN * loss(code, placed, gone) <= target(purpose)


def choose(domains: int, gone: float, purpose: Purpose, is_large: bool = False) -> Code:
    """The code for a new pack: the least expansion that is safe, of those that can become durable with these domains.

    Where none is safe: the usual one for what the next snapshot replaces, the safest for what stays. `domains`:
    usable ones, without the owner's. `is_large`: so many packs that the receipts of `ANCHOR_WIDE` fit no message."""
    codes = [code for code in (ROLLING, ANCHOR) if required(code.k, code.n) <= domains]
    if domains >= MANY_DOMAINS and not is_large:
        codes.append(ANCHOR_WIDE)
    if not codes:
        return Code(1, max(1, min(COPIES.n, domains)))
    if purpose != "rolling":
        codes = [code for code in codes if code != ROLLING] or codes
    safe = [code for code in codes if is_safe(code, min(code.n, domains), gone, purpose)]
    if safe:
        return min(safe, key=lambda code: (code.n / code.k, code.n))
    if purpose == "rolling":
        return codes[0]
    return min(codes, key=lambda code: loss(code, min(code.n, domains), gone))


def verdict(code: Code, peers: int, domains: int, gone: float, purpose: Purpose) -> Verdict:
    """What to tell the owner of a pack that `peers` hold in `domains` failure domains.

    >>> verdict(Code(1, 3), 3, 1, 0.05, "rolling").text
    'kept by 3 peers in 1 failure domain: not durable'
    """
    chance = loss(code, min(domains, code.n), gone)
    is_enough = domains >= required(code.k, code.n)
    is_durable = is_enough and MARGIN * chance <= target(purpose)
    where = f"kept by {_count(peers, 'peer')} in {_count(domains, 'failure domain')}"
    if is_durable:
        text = f"{where}, any {code.k} give it back: durable"
    elif is_enough and domains > 1:
        allowed = target(purpose) / MARGIN
        text = f"{where}: recoverable, not proven durable (loss up to {chance:.1g}, {allowed:.0e} allowed)"
    else:
        text = f"{where}: not durable"
    return Verdict(code, domains, chance, is_durable, text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
