"""How others see us: each peer tells where our connection comes from, and two of different subnets must agree.

One observer may lie, and many observers of one owner are one observer: an address counts when observers of two subnets
name it. What was said last wins, for a router gets a new address while the old words are still on record.
Spec: specs/21-reach.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from protocol.overlay.endpoint import SUBNET_BITS, Endpoint, canonical_ip, endpoint, is_global, subnet
from protocol.overlay.nat_kind import Nat, is_behind_carrier, kind_of
from protocol.units import MINUTE, Micros, PeerId

OBSERVERS_MAX: Final = 64
"""Observers remembered; the one that spoke longest ago is forgotten first."""

AGREE_MIN: Final = 2
"""Subnets whose observers must name an address before it is ours."""

LIFETIME: Final = Micros(60 * MINUTE)
"""Microseconds for which an observer's word counts: six rounds of dial-backs, each of which renews it."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Observation:
    """What one peer says of one connection."""

    observer: PeerId
    observer_address: str
    """The other end of the connection, a multiaddress; circuits and names say nothing and are dropped."""
    observed: str
    """The address at which it sees us, a multiaddress."""
    local_port: int
    """The port on which the connection ends here."""
    is_from_listen_port: bool
    """Whether we dialled, and from the port that we listen on: only then does the seen port tell about the router."""
    at: Micros
    is_inbound: bool = False
    """Whether the observer dialled: what it sees is what it dialled, a way in that works for one peer at least."""


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """Effect: the world sees us at another address. Mappings, relays and peers want to know."""

    before: str
    """Empty the first time."""
    after: str


@dataclass(frozen=True, slots=True)
class _Word:
    observer: PeerId
    looked: Endpoint
    seen: Endpoint
    local_port: int
    has_port: bool
    is_way_in: bool
    at: Micros


class Observations:
    """Counts words. `own` are the addresses of this machine's interfaces."""

    def __init__(self, own: Iterable[str] = (), subnet_bits: int = SUBNET_BITS) -> None:
        self._own = _canonical(own)
        self._bits = subnet_bits
        self._words: dict[PeerId, _Word] = {}
        self._external = ""

    def __len__(self) -> int:
        return len(self._words)

    @property
    def external(self) -> str:
        """The address that the world sees; empty while nobody confirmed one."""
        return self._external

    def moved(self, own: Iterable[str]) -> None:
        """The interfaces of this machine changed: what was seen through the old ones says nothing any more."""
        found = _canonical(own)
        if found != self._own:
            self._own = found
            self.forget()

    def forget(self) -> None:
        """The router lost its table: ports seen before must not be compared with those seen after."""
        self._words.clear()

    def receive(self, said: Observation) -> list[AddressChanged]:
        """Note one word. Nonsense is ignored: nothing depends on a single observer."""
        looked, seen = endpoint(said.observer_address), endpoint(said.observed)
        if looked is None or seen is None or looked.ip in self._own or (":" in looked.ip) != (":" in seen.ip):
            return []
        self._words.pop(said.observer, None)
        self._words[said.observer] = _Word(
            said.observer,
            looked,
            seen,
            said.local_port,
            said.is_from_listen_port and not said.is_inbound,
            said.is_from_listen_port or said.is_inbound,
            said.at,
        )
        while len(self._words) > OBSERVERS_MAX:
            del self._words[next(iter(self._words))]
        return self.tick(said.at)

    def seen_again(self, said: Observation) -> list[AddressChanged]:
        """An observer tells how it sees us now: what it said before is renewed; something else, or something that tells
        more of the router, replaces it."""
        word, seen = self._words.get(said.observer), endpoint(said.observed)
        if word is None or word.seen != seen or (said.is_from_listen_port and not word.has_port):
            return self.receive(said)
        del self._words[said.observer]
        self._words[said.observer] = replace(word, at=said.at)
        return self.tick(said.at)

    def tick(self, now: Micros) -> list[AddressChanged]:
        """Forget old words; say so when the address changed. Silence alone changes nothing."""
        for observer in [word.observer for word in self._words.values() if word.at + LIFETIME <= now]:
            del self._words[observer]
        found = self._agreed(self._words.values(), lambda word: word.seen.ip)
        if not found or found[0] == self._external:
            return []
        before, self._external = self._external, found[0]
        return [AddressChanged(before, self._external)]

    def candidates(self) -> tuple[str, ...]:
        """Endpoints at which we may be reachable from outside, the best confirmed first; none of them is proven yet."""
        stable = [word for word in self._words.values() if word.is_way_in and is_global(word.seen.ip)]
        return tuple(found.text for found in self._agreed(stable, lambda word: word.seen))

    def mappings(self) -> tuple[str, ...]:
        """Endpoints from which dials of our listening port come out, the newest word first. One observer is enough: it
        names a port of an address that several confirmed, so a lie makes whoever punches knock at our own router. A
        crowd in one subnet names one of them."""
        newest: dict[str, _Word] = {}
        for word in sorted(self._words.values(), key=lambda word: -word.at):
            if word.has_port and word.seen.ip == self._external:
                newest.setdefault(subnet(word.looked.ip, self._bits), word)
        return tuple(dict.fromkeys(word.seen.text for word in newest.values()))

    def nat(self, router: str = "") -> Nat:
        """What is known of the NAT. `router` = the outside address that our router claims, empty when it said none."""
        stable = self._newest_port([word for word in self._words.values() if word.has_port and ":" not in word.seen.ip])
        kind = kind_of([(word.looked, word.seen) for word in stable], self._own)
        if kind == "unknown" and self._external and self._external in self._own:
            kind = "none"
        keeps = all(word.seen.port == word.local_port for word in stable) if stable else None
        return Nat(kind, keeps, is_behind_carrier(router, self._external), self._external)

    def _newest_port(self, words: Collection[_Word]) -> list[_Word]:
        """Words about the newest local port and the newest address: a change of either must not look symmetric."""
        if not words:
            return []
        port = max(words, key=lambda word: word.at).local_port
        same = [word for word in words if word.local_port == port]
        current = [word for word in same if word.seen.ip == self._external]
        return current if self._external else same

    def _agreed(self, words: Iterable[_Word], key: Callable[[_Word], _T]) -> list[_T]:
        """What observers of `AGREE_MIN` subnets say alike; first what became agreed on last."""
        by_key: dict[_T, list[_Word]] = {}
        for word in sorted(words, key=lambda word: -word.at):
            by_key.setdefault(key(word), []).append(word)
        agreed: list[tuple[Micros, int, _T]] = []
        for value, same in by_key.items():
            newest: dict[str, Micros] = {}
            for word in same:
                newest.setdefault(subnet(word.looked.ip, self._bits), word.at)
            if len(newest) >= AGREE_MIN:
                agreed.append((sorted(newest.values(), reverse=True)[AGREE_MIN - 1], len(newest), value))
        return [value for _, _, value in sorted(agreed, key=lambda item: (-item[0], -item[1]))]


def _canonical(addresses: Iterable[str]) -> frozenset[str]:
    return frozenset(ip for text in addresses if (ip := canonical_ip(text)) is not None)
