"""Attacks through audits and appeals, each beside its honest twin: attacks 30 to 33 and 38 to 40.

Every function plays one life under one seed and returns what the attacker gains over its twin, smallest units.
"""

from __future__ import annotations

from random import Random
from typing import Final

from protocol import operations
from protocol.operations import commission
from protocol.units import PPM, Digest
from simulations.economy.careers import POLICY, PRICE, STAKE, auditors, court, exchange
from simulations.economy.court import NONE, UNITS, cost
from simulations.economy.exchange import Exchange, Place, key

PANELS: Final = (3, 7, 7)
"""Peers of the panel of each round; the third round is a game that two referees could check, counted as the second."""

FORCED_PPM: Final = 40_000
"""Share of audits whose answer is known: 4 % (specs/38-canaries.md)."""

AUDITS: Final = 100
"""Audits of one auditor's life."""

SAMPLES: Final = 4
"""Units of a claim that one audit replays."""

DIFFERS: Final = 0.05
"""Share of audits in which the auditor's result is not the provider's: why anybody would want to peek."""


def panel(dice: Random, number: int = 1) -> list[str]:
    """The members of a round's panel."""
    return dice.sample(auditors(), PANELS[number - 1])


def framing(seed: int, count: int = 2) -> int:
    """30: the renter and `count` of ten auditors call a true result wrong, to keep the price. The provider appeals.

    The honest twin of the renter pays the price for the result."""
    market = exchange(seed)
    bought = auditors()[:count]
    ring = ["renter", *bought]
    before = sum(map(market.worth, ring))
    place = _claimed(market)
    drawn = market.dice.sample(auditors(), 2)
    liars = [name for name in drawn if name in bought]
    if len(liars) == len(drawn):
        market.judge(place, "fraud", "unit_differs", auditor=drawn[1])
        _appealed(market, place, "provider", 1)
        members = panel(market.dice)
        is_theirs = 2 * len(set(members) & set(bought)) > len(members)
        market.rule(place, 1, *(("upheld", "fraud") if is_theirs else ("overturned", "accept")), members)
    else:
        honest = next(name for name in [*drawn, *auditors()] if name not in bought)
        market.judge(place, "accept", "hash_equal", honest, tuple(liars))
    market.settle()
    return sum(map(market.worth, ring)) - before + PRICE


def lazy_auditor(seed: int) -> int:
    """31: says yes without looking, for the fee and no work. One audit in 25 has a known wrong answer behind it."""
    market = exchange(seed)
    before, saved = market.stake("auditor-0"), 0
    for _ in range(AUDITS):
        saved += audit_cost()
        if market.dice.randrange(PPM) < FORCED_PPM:
            market.judge(_claimed(market), "accept", "hash_equal", "auditor-1", ("auditor-0",))
            break
    market.settle()
    return market.stake("auditor-0") - before + saved


def copying_auditor(seed: int) -> int:
    """32: seals what another auditor sealed. It cannot open that: no evidence, no fee, but no work either."""
    dice = Random(seed)
    salt, output = dice.randbytes(32), Digest(dice.randbytes(32))
    copied = operations.seal(key("auditor-1"), salt, output)
    is_taken = operations.seal(key("auditor-0"), salt, output) == copied
    return (audit_fee() if is_taken else 0) - (audit_fee() - audit_cost())


def peeking(seed: int) -> int:
    """33: does the work, looks at what the provider opens, and opens only where both agree, to offend nobody."""
    dice = Random(seed)
    return -audit_fee() * sum(dice.random() < DIFFERS for _ in range(AUDITS))


def spam(seed: int, count: int = 10) -> int:
    """38: appeals against true results, to make others work. Every bond is lost."""
    market = exchange(seed, stakes={"provider": STAKE, "spammer": STAKE})
    bench, before = court(market), market.worth("spammer")
    for _ in range(count):
        place = _lease(market)
        bench.try_claim(place, NONE)
        _appealed(market, place, "spammer", 1)
        market.rule(place, 1, "upheld", "accept", panel(market.dice))
    market.settle()
    return market.worth("spammer") - before


def spam_ratio(seed: int = 0, count: int = 10) -> float:
    """What the panels compute, over what the spammer loses: below one half, griefing costs the griefer more."""
    return PANELS[0] * cost(PRICE) * count / -spam(seed, count)


def delay(seed: int, sybils: int = 8) -> int:
    """39: many names appeal one after the other, to keep a true result from being paid. There are three rounds."""
    names = [f"sybil-{number}" for number in range(sybils)]
    market = exchange(seed, stakes={"provider": STAKE, **dict.fromkeys(names, STAKE)})
    before, rounds = sum(map(market.worth, names)), 0
    place = _claimed(market, trace=bytes(32))
    market.judge(place, "accept", "not_sampled")
    for name in names:
        if rounds < len(PANELS) and market.appeal(place, name, rounds + 1, b"r" * 32) == "ok":
            rounds += 1
            market.rule(place, rounds, "upheld", "accept", panel(market.dice, rounds))
    market.settle()
    return sum(map(market.worth, names)) - before


def self_challenge(seed: int) -> int:
    """40: a cheat whose claim went through challenges himself through a friend, to get the stake back as a reward."""
    market = exchange(seed, stakes={"provider": STAKE, "friend": STAKE})
    pair = ("provider", "friend")
    before = sum(map(market.worth, pair))
    place = _claimed(market)
    market.judge(place, "accept", "not_sampled")
    _appealed(market, place, "friend", 1)
    market.rule(place, 1, "overturned", "fraud", panel(market.dice))
    market.settle()
    return sum(map(market.worth, pair)) - before


def audit_fee() -> int:
    """What an auditor gets of a claim, smallest units."""
    return commission(PRICE) * POLICY.audit_fee // PPM


def audit_cost() -> int:
    """What replaying the samples of a claim costs."""
    return cost(PRICE, SAMPLES / UNITS)


def _appealed(market: Exchange, place: Place, appellant: str, number: int) -> None:
    code = market.appeal(place, appellant, number)
    assert code == "ok", code


def _lease(market: Exchange) -> Place:
    place = market.lease("provider", PRICE)
    assert not isinstance(place, str), place
    return place


def _claimed(market: Exchange, trace: bytes | None = None) -> Place:
    place = _lease(market)
    market.claim(place, trace=trace)
    return place
