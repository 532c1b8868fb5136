"""Metadata of a busy day: jobs of many renters, and canaries that are made of them well or badly."""

from __future__ import annotations

from random import Random

from protocol.units import SECOND
from verifier.indistinguishable import Metadata


def real(count: int, seed: int = 1) -> list[Metadata]:
    """Chunks of renters with habits of their own: prices around a level, limits in round numbers, days with a peak."""
    dice = Random(seed)
    renters = [dice.randbytes(32) for _ in range(20)]
    habits = {
        key: (dice.lognormvariate(9, 1), dice.choice((30, 60, 120, 600)), dice.randrange(1, 64)) for key in renters
    }
    found = []
    for _ in range(count):
        renter = dice.choice(renters)
        level, limit, chunks = habits[renter]
        second = int(dice.gauss(15 * 3600, 3 * 3600)) % 86_400
        found.append(
            Metadata(
                renter, dice.randbytes(32), dice.randbytes(16), int(level * dice.uniform(0.9, 1.1)),
                400 + chunks * 20 + dice.randrange(40), chunks, limit * SECOND, 3 * limit * SECOND,
                int(dice.expovariate(1 / (20 * SECOND))), second,
            )
        )  # fmt: skip
    return found


def hidden(count: int, seed: int = 1) -> list[Metadata]:
    """Canaries as they are to be: recoded chunks of the same renters, at their prices, sizes, limits and times."""
    dice = Random(seed + 1000)
    return [
        Metadata(
            item.renter, dice.randbytes(32), dice.randbytes(16), item.price, item.spec_bytes, item.chunks,
            item.timeout, item.deadline, item.gap, item.second,
        )
        for item in dice.choices(real(5 * count, seed)[count:], k=count)
    ]  # fmt: skip


def naive(count: int, what: str, seed: int = 3) -> list[Metadata]:
    """Canaries that give themselves away by one thing."""
    dice = Random(seed)
    key = dice.randbytes(31)
    changed: dict[str, dict[str, object]] = {
        "price": {"price": 10_000},
        "limit": {"timeout": 90 * SECOND, "deadline": 270 * SECOND},
        "timing": {"gap": SECOND},
        "size": {"spec_bytes": 300},
        "hour": {"second": 3 * 3600},
        "key": {"renter": key + b"\x01", "job": b"\x01" * 16, "spec": b"\x01" * 32},
    }
    fields = Metadata.__slots__
    return [Metadata(**({name: getattr(item, name) for name in fields} | changed[what])) for item in hidden(count)]
