"""Which relays a peer behind a router keeps a reservation at: the nearest ones, of different owners.

    plan = choice.plan(candidates, now)      then tell it what came of it: held, declined, failed, lost, misbehaved

Pure: time comes in, decisions go out. Spec: specs/20-relays.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.overlay.endpoint import endpoint, subnet
from protocol.units import HOUR, MINUTE, SECOND, Micros, PeerId

RELAYS: Final = 3
"""Reservations that are kept: one relay may be rebooted while another is being replaced."""

PER_SUBNET_MAX: Final = 2
"""Relays of one /16, and only when no other network offers any: at least one of three has another owner then."""

REFRESH_LEFT_PARTS: Final = 4
"""A reservation is refreshed when a quarter of its time is left."""

RETRY_MIN_US: Final = Micros(5 * SECOND)
"""First wait after a relay failed; each is twice the last."""

RETRY_MAX_US: Final = Micros(10 * MINUTE)
"""Longest wait before a relay that only failed is asked again."""

BAN_US: Final = Micros(6 * HOUR)
"""A relay that dropped or changed bytes is left alone for so long; a restart forgets it."""

CHECK_US: Final = Micros(5 * MINUTE)
"""Every relay is probed so often: bytes to ourselves through it have to come back unchanged."""

SUSPECT_US: Final = Micros(10 * SECOND)
"""Whoever makes circuits fail on purpose makes us probe an innocent relay, but not more often than this."""

REMEMBERED_MAX: Final = 1_024
"""Relays whose failures are remembered; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that offers to relay: where it is, and how far."""

    peer: PeerId
    rtt: Micros
    address: str
    """`/ip4/…/tcp/…`, as it is seen or dialled; decides the network that it counts for."""
    refused_until: Micros = Micros(0)


@dataclass(slots=True)
class Held:
    """A reservation at a relay."""

    subnet: str
    reserved_at: Micros
    until: Micros
    checked_at: Micros
    suspected_at: Micros = Micros(0)

    @property
    def refresh_at(self) -> Micros:
        """When to ask again."""
        return Micros(self.until - (self.until - self.reserved_at) // REFRESH_LEFT_PARTS)

    @property
    def check_at(self) -> Micros:
        """When to probe again."""
        return Micros(self.checked_at + CHECK_US)


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    until: Micros = Micros(0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Every relay is in at most one of them."""

    reserve: tuple[PeerId, ...] = ()
    refresh: tuple[PeerId, ...] = ()
    check: tuple[PeerId, ...] = ()
    release: tuple[PeerId, ...] = ()


class RelayChoice:
    """The reservations of one peer, and its memory of relays that failed."""

    def __init__(self, wanted: int = RELAYS) -> None:
        self.wanted = wanted
        """How many; 0 while this peer is public and needs none."""
        self._held: dict[PeerId, Held] = {}
        self._trouble: dict[PeerId, _Trouble] = {}

    @property
    def held(self) -> dict[PeerId, Held]:
        """The reservations that are believed to stand."""
        return dict(self._held)

    def plan(self, candidates: Sequence[Candidate], now: Micros) -> Plan:
        """Reserve at what is missing, refresh and check what is due, release what is too much."""
        for peer in [peer for peer, held in self._held.items() if held.until <= now]:
            self.failed(peer, now)
        usable = self._usable(candidates, now)
        release = self._surplus(usable)
        kept = {peer: held for peer, held in self._held.items() if peer not in release}
        refresh = tuple(peer for peer, held in kept.items() if held.refresh_at <= now)
        check = tuple(peer for peer, held in kept.items() if held.check_at <= now and peer not in refresh)
        return Plan(self._missing(usable, kept), refresh, check, release)

    def reserved(self, peer: PeerId, address: str, until: Micros, now: Micros) -> None:
        """A relay granted a reservation and brought a probe back, or refreshed it."""
        before = self._held.get(peer)
        checked_at, suspected_at = (now, Micros(0)) if before is None else (before.checked_at, before.suspected_at)
        self._held[peer] = Held(subnet_key(address), now, until, checked_at, suspected_at)
        self._trouble.pop(peer, None)

    def checked(self, peer: PeerId, began: Micros) -> None:
        """A probe that began then came back. It says nothing about a suspicion that is younger."""
        held = self._held.get(peer)
        if held is not None and held.suspected_at <= began:
            held.checked_at = began

    def suspected(self, peer: PeerId, now: Micros) -> bool:
        """Probe a relay at the next opportunity; False when it is none of ours, or was probed just now."""
        held = self._held.get(peer)
        if held is None or now < max(held.checked_at, held.suspected_at) + SUSPECT_US:
            return False
        held.suspected_at = now
        held.checked_at = Micros(now - CHECK_US)
        return True

    def failed(self, peer: PeerId, now: Micros) -> None:
        """A relay could not be reached, refused, or was lost: others first, and this one again later."""
        trouble = self._remember(peer)
        wait = min(RETRY_MIN_US << min(trouble.failures, 30), RETRY_MAX_US)
        trouble.failures += 1
        trouble.until = Micros(now + wait)

    def misbehaved(self, peer: PeerId, now: Micros) -> None:
        """A relay dropped or changed bytes."""
        self._remember(peer).until = Micros(now + BAN_US)

    def released(self, peer: PeerId) -> None:
        """A reservation is given up, through no fault of the relay."""
        self._held.pop(peer, None)

    def next_at(self, now: Micros) -> Micros:
        """When `plan` may have something to do, unless candidates change before."""
        due = [now + RETRY_MIN_US if len(self._held) < self.wanted else now + CHECK_US]
        for held in self._held.values():
            due += [held.refresh_at, held.check_at]
        return Micros(max(now, min(due)))

    def _remember(self, peer: PeerId) -> _Trouble:
        self._held.pop(peer, None)
        trouble = self._trouble.pop(peer, None) or _Trouble()
        self._trouble[peer] = trouble
        while len(self._trouble) > REMEMBERED_MAX:
            del self._trouble[next(iter(self._trouble))]
        return trouble

    def _usable(self, candidates: Sequence[Candidate], now: Micros) -> list[Candidate]:
        def may(candidate: Candidate) -> bool:
            trouble = self._trouble.get(candidate.peer)
            return candidate.refused_until <= now and (trouble is None or trouble.until <= now)

        known = {candidate.peer: candidate for candidate in candidates if may(candidate)}
        return sorted(known.values(), key=lambda candidate: (candidate.rtt, candidate.peer))

    def _missing(self, usable: Sequence[Candidate], kept: dict[PeerId, Held]) -> tuple[PeerId, ...]:
        """The nearest that fill the gap: first one per network, then a second one where nothing else is left."""
        chosen: list[PeerId] = []
        crowd = Counter(held.subnet for held in kept.values())
        for room in range(1, PER_SUBNET_MAX + 1):
            for candidate in usable:
                network = subnet_key(candidate.address)
                is_new = candidate.peer not in kept and candidate.peer not in chosen
                if len(kept) + len(chosen) < self.wanted and is_new and crowd[network] < room:
                    chosen.append(candidate.peer)
                    crowd[network] += 1
        return tuple(chosen)

    def _surplus(self, usable: Sequence[Candidate]) -> tuple[PeerId, ...]:
        """Reservations beyond the wanted number, and a second one of a network once another network offers one."""
        newest_first = sorted(self._held, key=lambda peer: self._held[peer].reserved_at, reverse=True)
        surplus = newest_first[: max(0, len(self._held) - self.wanted)]
        if not surplus and len(self._held) == self.wanted:
            crowd = Counter(held.subnet for held in self._held.values())
            doubles = [peer for peer in newest_first if crowd[self._held[peer].subnet] > 1]
            if doubles and any(subnet_key(candidate.address) not in crowd for candidate in usable):
                surplus = doubles[:1]
        return tuple(surplus)


def subnet_key(address: str) -> str:
    """The /16 (or /32 of IPv6) that an address counts for; a name or anything else counts for itself."""
    found = endpoint(address)
    return address if found is None else subnet(found.ip)
