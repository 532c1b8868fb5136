"""Careers of providers who cheat, each beside its honest twin: attacks 19, 25 to 29 of the research.

Every function plays one life under one seed and returns what the cheat gains over the twin, smallest units.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from protocol import operations
from protocol.policy import Policy
from protocol.trust import Level
from protocol.units import CREDIT, PPM, Digest
from simulations.economy.court import ALL, AUDITOR_STAKE, NONE, Court, bad_units, cost
from simulations.economy.exchange import Exchange, key

POLICY: Final = Policy(has_exposure_cap=False)
"""The default economics; the exposure cap is tried by itself."""

CAPPED: Final = Policy(has_exposure_cap=True)

PRICE: Final = CREDIT
"""Of one chunk."""

STAKE: Final = 100 * CREDIT
"""Of a provider: the recommended one."""

POOL: Final = 10
"""Auditors, of whom `collusion` is a share."""

JOBS: Final = 40
"""Claims of one career."""


def court(exchange: Exchange, share: float = 0.0, level: Level = "standard") -> Court:
    """Ten auditors, of whom a share is bought."""
    names = auditors()
    return Court(exchange, names, names[: round(share * len(names))], level)


def auditors() -> list[str]:
    """Their names."""
    return [f"auditor-{number}" for number in range(POOL)]


def exchange(seed: int, policy: Policy, stakes: dict[str, int] | None = None) -> Exchange:
    """A market with staked auditors."""
    known = {name: AUDITOR_STAKE for name in auditors()}
    return Exchange(policy, known | (stakes if stakes is not None else {"provider": STAKE}), Random(seed))


def career(
    seed: int,
    shares: Iterable[float],
    policy: Policy = POLICY,
    stake: int = STAKE,
    bought: float = 0.0,
    level: Level = "standard",
) -> int:
    """Net gain of a provider that leaves the given share of each claim undone, less what it computed."""
    market = exchange(seed, policy, {"provider": stake})
    bench, spent, before = court(market, bought, level), 0, market.worth("provider")
    for share in shares:
        place = market.lease("provider", PRICE)
        if isinstance(place, str):
            break  # Banned, or nothing left to stake.
        spent += cost(PRICE, 1.0 - share)
        bench.try_claim(place, bad_units(share, market))
    market.settle()
    return market.worth("provider") - before - spent


def gain(seed: int, shares: Iterable[float], bought: float = 0.0, level: Level = "standard", stake: int = STAKE) -> int:
    """Over the honest twin of as many claims, under the same dice."""
    plan = list(shares)
    twin = career(seed, [0.0] * len(plan), stake=stake, bought=bought, level=level)
    return career(seed, plan, stake=stake, bought=bought, level=level) - twin


def lazy(seed: int, share: float = 1.0) -> int:
    """Leaves out a share of every claim from the beginning."""
    return gain(seed, [share] * JOBS)


def front_running(seed: int) -> int:
    """19: seals what another sealed. Its opening does not fit, because a seal is made over who sealed it."""
    market = exchange(seed, POLICY, {"provider": STAKE, "copier": STAKE})
    victim, copy = market.lease("provider", PRICE), market.lease("copier", PRICE)
    assert not isinstance(victim, str) and not isinstance(copy, str)
    before = market.worth("copier") + PRICE  # Its collateral is pended by now.
    output, salt = Digest(market.random_bytes()), market.random_bytes()
    sealed = operations.seal(key("provider"), salt, output)
    market.claim(victim, sealed)
    market.claim(copy, sealed)
    opened = operations.seal(key("copier"), salt, output)  # The victim's opening, heard in time, shown as its own.
    market.judge(victim, "accept", "hash_equal")
    market.judge(copy, *(("accept", "hash_equal") if opened == sealed else ("severe", "seal_mismatch")))  # type: ignore[arg-type]
    market.settle()
    return market.worth("copier") - before - (operations.commission(PRICE) and PRICE - operations.commission(PRICE) - cost(PRICE))


def sybils(seed: int, count: int = 16) -> int:
    """25: one stake cut into many identities, each of which leaves everything out until it is banned."""
    market = exchange(seed, POLICY, {f"provider-{number}": STAKE // count for number in range(count)})
    bench = court(market)
    names = [f"provider-{number}" for number in range(count)]
    before = sum(map(market.worth, names))
    for turn in range(JOBS):
        place = market.lease(names[turn % count], PRICE)
        if not isinstance(place, str):
            bench.try_claim(place, ALL)
    market.settle()
    return sum(map(market.worth, names)) - before - career(seed, [0.0] * JOBS)


def white_wash(seed: int, entry: int = 2 * PRICE) -> int:
    """26: cheats under a new name each time it is caught, with just the stake that a lease takes."""
    names = [f"new-{number}" for number in range(JOBS)]
    market = exchange(seed, POLICY, dict.fromkeys(names, entry))
    bench, before = court(market), sum(map(market.worth, names))
    known = iter(names)
    current = next(known)
    for _ in range(JOBS):
        place = market.lease(current, PRICE)
        if isinstance(place, str) or bench.try_claim(place, ALL) != "accept":
            current = next(known)
    market.settle()
    return sum(map(market.worth, names)) - before - career(seed, [0.0] * JOBS)


def exit_scam(seed: int, honest: int = 30, last: int = 10) -> int:
    """27: `honest` good claims, then `last` bad ones at once, before any of them is judged."""
    total = honest + last

    def life(is_honest: bool) -> int:
        market = exchange(seed, CAPPED, {"provider": 40 * STAKE})
        bench, before, spent = court(market), market.worth("provider"), 0
        for _ in range(honest):
            place = market.lease("provider", PRICE)
            if isinstance(place, str):
                break
            spent += cost(PRICE)
            bench.try_claim(place, NONE)
        taken = [place for _ in range(last) if not isinstance(place := market.lease("provider", PRICE), str)]
        for place in taken:
            spent += cost(PRICE) if is_honest else 0
            bench.try_claim(place, NONE if is_honest else ALL)
        market.settle()
        return market.worth("provider") - before - spent

    return life(False) - life(True) if total else 0


def bought_auditors(seed: int, share: float = 0.2, level: Level = "standard") -> int:
    """28: a share of the auditors is its own, and finds everything right."""
    return gain(seed, [1.0] * JOBS, bought=share, level=level)


def self_dealing(seed: int) -> int:
    """29: renter and provider are one, and trade for a subsidy. There is none: each trade costs the commission."""
    market = exchange(seed, POLICY)
    bench, before = court(market), market.worth("provider") + market.worth("renter")
    for _ in range(JOBS):
        place = market.lease("provider", PRICE)
        if not isinstance(place, str):
            bench.try_claim(place, NONE)
    market.settle()
    return market.worth("provider") + market.worth("renter") - before


SHARE: Final = PPM
