"""Careers of providers who cheat, each beside its honest twin: attacks 19 and 25 to 29.

Every function plays one life under one seed and returns what the cheat gains over the twin, smallest units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

from protocol import operations
from protocol.policy import Policy
from protocol.trust import Level
from protocol.units import CREDIT, Digest
from simulations.economy.court import ALL, AUDITOR_STAKE, NONE, Court, bad_units, cost, pay
from simulations.economy.exchange import Exchange, key

POLICY: Final = Policy()
"""The default economics; the exposure cap, which is off there, is tried in the exit scam."""

CAPPED: Final = Policy(has_exposure_cap=True)

PRICE: Final = CREDIT
"""Of one chunk."""

STAKE: Final = 100 * CREDIT
"""Of a provider: the recommended one."""

POOL: Final = 10
"""Auditors."""

JOBS: Final = 40
"""Claims of one career."""


def auditors() -> list[str]:
    """Their names; the first of them are those that an attacker buys."""
    return [f"auditor-{number}" for number in range(POOL)]


def exchange(seed: int, policy: Policy = POLICY, stakes: dict[str, int] | None = None) -> Exchange:
    """A market with staked auditors, and one provider unless said otherwise."""
    known = dict.fromkeys(auditors(), AUDITOR_STAKE)
    return Exchange(policy, known | (stakes if stakes is not None else {"provider": STAKE}), Random(seed))


def court(market: Exchange, share: float = 0.0, level: Level = "standard") -> Court:
    """Its auditors, of whom a share is bought."""
    names = auditors()
    return Court(market, names, names[: round(share * len(names))], level)


@dataclass(frozen=True, slots=True)
class Life:
    """What a career depends on beside its claims."""

    stake: int = STAKE
    bought: float = 0.0
    """Share of the auditors that are its own."""
    level: Level = "standard"
    rests: bool = False
    """Lets each dispute window pass before the next lease: what is held then never stands in for stake."""


ORDINARY: Final = Life()


def career(seed: int, shares: Iterable[float], life: Life = ORDINARY) -> int:
    """Net gain of a provider that leaves the given share of each claim undone, less what it computed."""
    market = exchange(seed, stakes={"provider": life.stake})
    bench, spent, before = court(market, life.bought, life.level), 0, market.worth("provider")
    for share in shares:
        place = market.lease("provider", PRICE)
        if isinstance(place, str):
            break  # Banned, or nothing left to stake.
        spent += cost(PRICE, 1.0 - share)
        bench.try_claim(place, bad_units(share, market))
        if life.rests:
            market.settle()
    market.settle()
    return market.worth("provider") - before - spent


def gain(seed: int, shares: Iterable[float], life: Life = ORDINARY) -> int:
    """Over the honest twin of as many claims, under the same dice."""
    plan = list(shares)
    return career(seed, plan, life) - career(seed, [0.0] * len(plan), life)


def lazy(seed: int) -> int:
    """Leaves every claim undone, from the beginning."""
    return gain(seed, [1.0] * JOBS)


def front_running(seed: int) -> int:
    """19: seals what another sealed. The opening does not fit, because a seal is made over who sealed it."""
    market = exchange(seed, stakes={"provider": STAKE, "copier": STAKE})
    before = market.worth("copier")
    victim, copy = market.lease("provider", PRICE), market.lease("copier", PRICE)
    assert not isinstance(victim, str)
    assert not isinstance(copy, str)
    output, salt = Digest(market.random_bytes()), market.random_bytes()
    sealed = operations.seal(key("provider"), salt, output)
    market.claim(victim, sealed)
    market.claim(copy, sealed)
    market.judge(victim, "accept", "hash_equal")
    if operations.seal(key("copier"), salt, output) == sealed:  # The victim's opening, shown as its own.
        market.judge(copy, "accept", "hash_equal")
    else:
        market.judge(copy, "severe", "seal_mismatch")
    market.settle()
    return market.worth("copier") - before - (pay(PRICE) - cost(PRICE))


def sybils(seed: int, count: int = 16) -> int:
    """25: one stake cut into many identities, each of which leaves everything out until it is banned."""
    names = [f"provider-{number}" for number in range(count)]
    market = exchange(seed, stakes=dict.fromkeys(names, STAKE // count))
    bench, before = court(market), sum(map(market.worth, names))
    for turn in range(JOBS):
        place = market.lease(names[turn % count], PRICE)
        if not isinstance(place, str):
            bench.try_claim(place, ALL)
    market.settle()
    return sum(map(market.worth, names)) - before - career(seed, [0.0] * JOBS)


def white_wash(seed: int, entry: int = 2 * PRICE) -> int:
    """26: cheats under a new name each time it is caught, with little more stake than a lease takes."""
    names = [f"new-{number}" for number in range(JOBS + 1)]
    market = exchange(seed, stakes=dict.fromkeys(names, entry))
    bench, before, current = court(market), sum(map(market.worth, names)), 0
    for _ in range(JOBS):
        place = market.lease(names[current], PRICE)
        if isinstance(place, str) or bench.try_claim(place, ALL) != "accept":
            current += 1
    market.settle()
    return sum(map(market.worth, names)) - before - career(seed, [0.0] * JOBS)


def exit_scam(seed: int, honest: int = 30, last: int = 10) -> int:
    """27: `honest` good claims, then `last` bad ones leased at once, before any of them is judged."""

    def life(*, is_honest: bool) -> int:
        market = exchange(seed, CAPPED, {"provider": 2 * STAKE})
        bench, before, spent = court(market), market.worth("provider"), 0
        for _ in range(honest):
            place = market.lease("provider", PRICE)
            if isinstance(place, str):  # More in flight than its stake answers for: it waits for its pay.
                market.settle()
                continue
            spent += cost(PRICE)
            bench.try_claim(place, NONE)
        market.settle()
        leases = [market.lease("provider", PRICE) for _ in range(last)]
        for place in leases:
            if isinstance(place, str):
                continue
            spent += cost(PRICE) if is_honest else 0
            bench.try_claim(place, NONE if is_honest else ALL)
        market.settle()
        return market.worth("provider") - before - spent

    return life(is_honest=False) - life(is_honest=True)


def bought_auditors(seed: int, share: float = 0.2, level: Level = "standard") -> int:
    """28: a share of the auditors is its own, and finds everything right."""
    return gain(seed, [1.0] * JOBS, Life(bought=share, level=level))


def self_dealing(seed: int) -> int:
    """29: renter and provider are one, and trade for a subsidy. There is none: each trade costs the commission."""
    market = exchange(seed)
    pair = ("provider", "renter")
    bench, before = court(market), sum(map(market.worth, pair))
    for _ in range(JOBS):
        place = market.lease("provider", PRICE)
        assert not isinstance(place, str), place
        bench.try_claim(place, NONE)
    market.settle()
    return sum(map(market.worth, pair)) - before
