"""Who shall hold what: failure domains, limits against correlated loss, and a weighted choice. Pure.

One shard per failure domain always; per neighbourhood (a /16) and per region no more than a pack can lose at once; and
few newcomers. The last three give way when nobody else is left, and the verdict says so.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from protocol.units import PPM, SECOND, Micros, PeerId
from storage.erasure import Code

NEWCOMER_PPM: Final = 100_000
"""Share of the shards that peers without a record may hold: a tenth, at least one."""

RTT_UNKNOWN: Final = Micros(SECOND // 4)
"""Microseconds assumed where no round trip was measured: another continent."""

UPLINK_UNKNOWN: Final = 1_250_000
"""Bytes per second assumed where nothing was measured: a home line of 10 Mbit/s."""

UPLINK_MIN: Final = 64 * 1024
"""Bytes per second below which a holder is of no use: 256 MiB in shards would take more than half an hour."""

DOMAIN_BITS: Final = {4: 24, 6: 48}
"""Prefix of an address that fails together."""

AREA_BITS: Final = {4: 16, 6: 32}
"""Prefix of an address that one network operator is likely to run."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a peer is, as far as it matters for failing together."""

    domain: str
    area: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that could hold shards."""

    peer: PeerId
    where: Where
    region: str = ""
    """Empty: its owner did not say, and it shares no region with anybody."""
    rtt: Micros | None = None
    uptime_ppm: int = PPM
    uplink: int | None = None
    """Bytes per second, measured."""
    is_newcomer: bool = True

    @property
    def weight(self) -> float:
        """Uptime × uplink × nearness, without a unit; a slow or absent peer is hardly ever chosen."""
        rtt = RTT_UNKNOWN if self.rtt is None else self.rtt
        uplink = UPLINK_UNKNOWN if self.uplink is None else self.uplink
        near = SECOND / (SECOND + 10 * max(0, rtt))
        return max(1e-9, (self.uptime_ppm / PPM) ** 8 * min(8.0, uplink / UPLINK_UNKNOWN) * near)


@dataclass(frozen=True, slots=True)
class Placement:
    """Holders in shard order, and who steps in."""

    holders: tuple[PeerId, ...]
    spares: tuple[PeerId, ...]
    given_way: tuple[str, ...] = field(default=())
    """Limits that could not be kept: `region`, `area`, `newcomers`."""


def where(peer: PeerId, addresses: Iterable[str]) -> Where:
    """The failure domain of a peer: the /24 or /48 of its first public address; else the peer is one by itself.

    Relayed addresses are the relay's, so they say nothing. Names are not looked up.

    >>> where(PeerId(b"a"), ["/ip4/192.168.1.4/tcp/1", "/ip4/8.8.8.8/tcp/1"])
    Where(domain='8.8.8.0/24', area='8.8.0.0/16')
    """
    for text in addresses:
        parts = text.split("/")
        if len(parts) < 3 or parts[1] not in ("ip4", "ip6") or "p2p-circuit" in parts:
            continue
        try:
            address = ipaddress.ip_address(parts[2])
        except ValueError:
            continue
        if address.is_global:
            domain, area = DOMAIN_BITS[address.version], AREA_BITS[address.version]
            return Where(_prefix(address, domain), _prefix(address, area))
    return Where(peer.hex(), peer.hex())


def domains(candidates: Iterable[Candidate]) -> int:
    """Distinct failure domains among them."""
    return len({one.where.domain for one in candidates})


def place(
    code: Code,
    candidates: Sequence[Candidate],
    dice: Random,
    first: Collection[PeerId] = (),
    taken: Collection[Candidate] = (),
) -> Placement:
    """Choose up to `code.n` holders, and everybody else worth asking as a spare.

    `first`: peers to prefer where the limits allow it (who held the snapshot before). `taken`: holders that count
    against the limits already and are not chosen again.
    """
    count = max(0, code.n - len(taken))
    ranked = sorted(candidates, key=lambda one: (one.peer not in first, -_draw(one, dice), one.peer))
    chosen: list[Candidate] = []
    given_way: list[str] = []
    for loose in ((), ("newcomers",), ("newcomers", "region"), ("newcomers", "region", "area")):
        before = len(chosen)
        limits = _Limits(code, loose, [*taken, *chosen])
        for one in ranked:
            if len(chosen) < count and limits.admits(one):
                chosen.append(one)
        if loose and len(chosen) > before:
            given_way.append(loose[-1])
        if len(chosen) >= count:
            break
    held = {one.where.domain for one in (*taken, *chosen)}
    spares = [one for one in ranked if one.where.domain not in held]
    return Placement(
        tuple(one.peer for one in chosen), tuple(one.peer for one in _one_per_domain(spares)), tuple(given_way)
    )


class _Limits:
    """How many shards may still go where."""

    def __init__(self, code: Code, loose: Sequence[str], held: Iterable[Candidate]) -> None:
        self._loose = loose
        self._together = max(1, (code.n - code.k) // 2)
        self._newcomers_max = max(1, code.n * NEWCOMER_PPM // PPM)
        self._domains: set[str] = set()
        self._areas: Counter[str] = Counter()
        self._regions: Counter[str] = Counter()
        self._newcomers = 0
        for one in held:
            self._count(one)

    def admits(self, one: Candidate) -> bool:
        """Whether a shard may go there; if so it is counted."""
        region_full = bool(one.region) and self._regions[one.region] >= self._together
        if (
            one.where.domain in self._domains
            or ("area" not in self._loose and self._areas[one.where.area] >= self._together)
            or ("region" not in self._loose and region_full)
            or ("newcomers" not in self._loose and one.is_newcomer and self._newcomers >= self._newcomers_max)
        ):
            return False
        self._count(one)
        return True

    def _count(self, one: Candidate) -> None:
        self._domains.add(one.where.domain)
        self._areas[one.where.area] += 1
        self._regions[one.region] += 1
        self._newcomers += one.is_newcomer


def _one_per_domain(ranked: Iterable[Candidate]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for one in ranked:
        found.setdefault(one.where.domain, one)
    return list(found.values())


def _draw(one: Candidate, dice: Random) -> float:
    """Weighted order without replacement (Efraimidis and Spirakis, 2006)."""
    return float(dice.random() ** (1.0 / one.weight))


def _prefix(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int) -> str:
    return str(ipaddress.ip_network((address, bits), strict=False))
