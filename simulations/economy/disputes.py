"""Attacks through audits and appeals, each beside its honest twin: 30 to 33 and 38 to 40 of the research.

Every function plays one life under one seed and returns what the attacker gains over its twin, smallest units.
"""

from __future__ import annotations

from random import Random
from typing import Final

from protocol import operations
from protocol.operations import commission
from protocol.units import CREDIT, PPM
from simulations.economy.careers import POLICY, POOL, PRICE, STAKE, auditors, court, exchange
from simulations.economy.court import ALL, AUDITOR_STAKE, NONE, cost
from simulations.economy.exchange import Exchange, Place

PANEL: Final = 3
"""Peers of the first panel."""

FORCED_PPM: Final = 40_000
"""Share of audits whose answer is known: 4 % (specs/38-canaries.md)."""

ROUNDS: Final = 100
"""Audits, or appeals, of one life."""


def panel(dice: Random, bought: int) -> tuple[list[str], bool]:
    """(three auditors, whether the attacker's own are more than half)."""
    names = auditors()
    drawn = dice.sample(names, PANEL)
    return drawn, 2 * sum(name in names[:bought] for name in drawn) > PANEL


def bond(price: int, size: int = PANEL) -> int:
    """What an appeal against a decision about this price must stake: one and a half times what its panel costs."""
    return max(POLICY.bond_min, price * size * 3 // 2)


def framing(seed: int, bought: int = 2) -> int:
    """30: renter and two of ten auditors call a true result wrong, to keep the price. The provider appeals."""
    market = exchange(seed, POLICY)
    names, ring = auditors(), ["renter", *auditors()[:bought]]
    before = sum(map(market.worth, ring))
    place = _claimed(market)
    drawn = market.dice.sample(names, 2)
    if not all(name in names[:bought] for name in drawn):
        is_one = any(name in names[:bought] for name in drawn)
        faulted = tuple(name for name in drawn if name in names[:bought]) if is_one else ()
        honest = next(name for name in [*drawn, *names[bought:]] if name not in names[:bought])
        market.judge(place, "accept", "hash_equal", auditor=honest, faulted=faulted)
    else:
        market.judge(place, "fraud", "unit_differs", auditor=drawn[1])
        assert market.appeal(place, "provider", bond(PRICE)) == "ok"
        members, is_theirs = panel(market.dice, bought)
        if is_theirs:
            market.rule(place, 1, "upheld", "fraud", members)
        else:
            market.rule(place, 1, "overturned", "accept", members)
    market.settle()
    return sum(map(market.worth, ring)) - before + PRICE - 0 * POOL


def lazy_auditor(seed: int) -> int:
    """31: says yes without looking. One audit in 25 has a known wrong answer behind it."""
    market = exchange(seed, POLICY)
    before, saved = market.stake("auditor-0"), 0
    for _ in range(ROUNDS):
        saved += _audit_cost()
        if market.dice.randrange(PPM) < FORCED_PPM:
            place = _claimed(market)
            market.judge(place, "accept", "hash_equal", auditor="auditor-1", faulted=("auditor-0",))
            break
    market.settle()
    return market.stake("auditor-0") - before + saved


def copying_auditor(seed: int) -> int:
    """32: seals what another auditor sealed, and cannot open it: no evidence, no fee, and it saves its work."""
    market = exchange(seed, POLICY)
    salt = market.random_bytes()
    honest, copy = (market.random_bytes() for _ in range(2))
    assert operations.seal(_peer("auditor-0"), salt, honest) != operations.seal(_peer("auditor-1"), salt, honest)  # type: ignore[arg-type]
    del copy
    return _audit_cost() - _fee()


def peeking(seed: int) -> int:
    """33: seals, sees what the provider opens, and opens its own only where that pays: where both agree."""
    dice = Random(seed)
    differs = dice.random() < 0.05
    return -_fee() if differs else 0


def spam(seed: int, count: int = 10) -> int:
    """38: appeals against true results, to make others work. Every bond is lost."""
    market = exchange(seed, POLICY, {"provider": STAKE, "spammer": STAKE})
    bench, before = court(market), market.worth("spammer")
    for _ in range(count):
        place = _lease(market)
        if bench.try_claim(place, NONE) != "accept":
            continue
        if market.appeal(place, "spammer", bond(PRICE)) == "ok":
            market.rule(place, 1, "upheld", "accept", panel(market.dice, 0)[0])
    market.settle()
    return market.worth("spammer") - before


def spam_ratio(count: int = 10) -> float:
    """What the panels of honest peers compute, over what the spammer loses."""
    return PANEL * cost(PRICE) * count / -spam(0, count)


def delay(seed: int, sybils: int = 8) -> int:
    """39: many names appeal one after the other, to keep a true result from being paid. Each may once per round."""
    names = [f"sybil-{number}" for number in range(sybils)]
    market = exchange(seed, POLICY, {"provider": STAKE, **dict.fromkeys(names, STAKE)})
    before = sum(map(market.worth, names))
    place = _claimed(market)
    market.judge(place, "accept", "not_sampled")
    rounds = 0
    for name in names:
        size = (PANEL, 7, 7)[min(rounds, 2)]
        if market.appeal(place, name, bond(PRICE, size)) != "ok":
            continue
        rounds += 1
        market.rule(place, rounds, "upheld", "accept", panel(market.dice, 0)[0])
    market.settle()
    return sum(map(market.worth, names)) - before


def self_challenge(seed: int) -> int:
    """40: a cheat challenges himself through a friend, to get his stake back as a reward."""
    market = exchange(seed, POLICY, {"provider": STAKE, "friend": STAKE})
    before = market.worth("provider") + market.worth("friend")
    place = _claimed(market)
    market.judge(place, "accept", "not_sampled")
    assert market.appeal(place, "friend", bond(PRICE)) == "ok"
    market.rule(place, 1, "overturned", "fraud", panel(market.dice, 0)[0])
    market.settle()
    return market.worth("provider") + market.worth("friend") - before


def _lease(market: Exchange) -> Place:
    place = market.lease("provider", PRICE)
    assert not isinstance(place, str), place
    return place


def _claimed(market: Exchange) -> Place:
    place = _lease(market)
    market.claim(place)
    return place


def _peer(name: str) -> bytes:
    from simulations.economy.exchange import key

    return key(name)


def _fee() -> int:
    return commission(PRICE) * POLICY.audit_fee // PPM


def _audit_cost() -> int:
    """An auditor replays 4 of 64 units."""
    return cost(PRICE, 4 / 64)


UNUSED: Final = (ALL, AUDITOR_STAKE, CREDIT)
