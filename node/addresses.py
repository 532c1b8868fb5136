"""Where peers can be reached: addresses as text, and the book that keeps them.

A direct address is `/ip4/A/tcp/P`; a circuit is `/ip4/A/tcp/P/p2p/<relay>/p2p-circuit`: through a relay that is there.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import psutil
import trio
from multiaddr import Multiaddr

from protocol.errors import Refused
from protocol.identity import peer_from_text
from protocol.units import PeerId

ADDRESSES_PER_PEER: Final = 8
"""As many as an offer carries."""

PEERS_KNOWN_MAX: Final = 4_096
"""Peers in the address book; the longest unheard is forgotten first."""

BACKOFF_MIN_S: Final = 0.25
"""First wait after a failed dial."""

BACKOFF_MAX_S: Final = 30.0
"""Longest wait between dials: a bootstrap that comes back is found within half a minute."""

CIRCUIT: Final = "/p2p-circuit"
"""Ends the address of a peer that is reached through a relay."""

FORBIDDEN_MAX: Final = 4_096
"""Peers that are shut out at a time; identities cost nothing, so the list must not grow with them."""

FORBID_S: Final = 60.0
"""How long a peer that broke a rule, or belongs to another network, is not dialled and not let in."""


def split_address(text: str) -> tuple[PeerId, str]:
    """`/ip4/…/tcp/…/p2p/12D3KooW…` as (peer, address without the peer); Refused when a part is missing."""
    head, mark, tail = text.rpartition("/p2p/")
    if not mark or not is_dialable(head):
        raise Refused(
            f"{text[:200]!r} is no address of a peer",
            code="bad_address",
            fix="An address looks like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…; `shoal node status` shows yours.",
        )
    return peer_from_text(tail), head


def split_circuit(text: str) -> tuple[PeerId, str] | None:
    """A circuit as (relay, the relay's own address); None for anything else."""
    if not text.endswith(CIRCUIT):
        return None
    try:
        return split_address(text.removesuffix(CIRCUIT))
    except Refused:
        return None


def without_target(text: str) -> str:
    """An address without the peer that it leads to: `…/tcp/1/p2p/X` and `…/p2p-circuit/p2p/X` lose the `/p2p/X`."""
    if text.endswith(CIRCUIT):
        return text
    return text.rpartition("/p2p/")[0] or text


def is_usable(text: str) -> bool:
    """True for a direct address or a circuit that can be dialled."""
    return is_dialable(text) or split_circuit(text) is not None


def is_dialable(text: str) -> bool:
    """True for TCP over IPv4, IPv6 or a name, with a port that can be dialled."""
    parts = text.split("/")
    if len(parts) != 5 or parts[1] not in {"ip4", "ip6", "dns", "dns4", "dns6"} or parts[3] != "tcp":
        return False
    if parts[2] in {"0.0.0.0", "::"} or parts[4] == "0":
        return False
    try:
        Multiaddr(text)
    except ValueError:
        return False
    return True


def require_listenable(text: str) -> None:
    """Refused unless it is an address of this machine's own kind: an IP address, maybe 0.0.0.0, and a port, maybe 0."""
    parts = text.split("/")
    if len(parts) == 5:
        parts[2] = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(parts[2], parts[2])
        parts[4] = "1" if parts[4] == "0" else parts[4]
    if not text.startswith(("/ip4/", "/ip6/")) or not is_dialable("/".join(parts)):
        raise Refused(
            f"{text[:200]!r} cannot be listened on",
            code="bad_address",
            fix="Write it like /ip4/0.0.0.0/tcp/4301 or /ip6/::/tcp/4301.",
        )


def dialable_addresses(listening: Iterable[str]) -> list[str]:
    """Addresses that others can dial: 0.0.0.0 and :: stand for every interface, loopback last (for this machine)."""
    found: dict[str, None] = {}
    for text in listening:
        for wildcard, family, kind in (("/ip4/0.0.0.0/", socket.AF_INET, "ip4"), ("/ip6/::/", socket.AF_INET6, "ip6")):
            if text.startswith(wildcard):
                rest = text.removeprefix(wildcard)
                found |= dict.fromkeys(f"/{kind}/{address}/{rest}" for address in _interface_addresses(family))
                break
        else:
            found[text] = None
    return list(found)[:ADDRESSES_PER_PEER]


def _interface_addresses(family: socket.AddressFamily) -> list[str]:
    every = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == family]
    usable = [address for address in every if not address.lower().startswith("fe80:")]
    return sorted(usable, key=lambda address: ipaddress.ip_address(address).is_loopback)


class AddressBook:
    """Addresses by peer, newest peers last. Bounded in peers and in addresses per peer."""

    def __init__(self) -> None:
        self._known: dict[PeerId, tuple[str, ...]] = {}
        self._forbidden: dict[PeerId, float] = {}
        self.changed = trio.Event()
        """Set and replaced when an address becomes known."""

    def learn(self, peer: PeerId, addresses: Iterable[str]) -> bool:
        """Add addresses, the newest in front; what cannot be dialled is left out. True when something is new."""
        before = self._known.pop(peer, ())
        fresh = tuple(dict.fromkeys(text for text in map(without_target, addresses) if is_usable(text)))
        merged = (fresh + tuple(text for text in before if text not in fresh))[:ADDRESSES_PER_PEER]
        if merged:
            self._known[peer] = merged
        while len(self._known) > PEERS_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        is_new = set(merged) != set(before)
        if is_new:
            self.changed.set()
            self.changed = trio.Event()
        return is_new

    def worked(self, peer: PeerId, address: str) -> None:
        """This address answered: try it first next time."""
        self.learn(peer, (address,))

    def of(self, peer: PeerId) -> tuple[str, ...]:
        """Addresses of a peer, best first; empty when it is unknown."""
        return self._known.get(peer, ())

    def all(self) -> dict[PeerId, tuple[str, ...]]:
        """Everything known, the newest last."""
        return dict(self._known)

    def forbid(self, peer: PeerId) -> None:
        """Have nothing to do with a peer for `FORBID_S`."""
        self._forbidden.pop(peer, None)
        self._forbidden[peer] = trio.current_time() + FORBID_S
        while len(self._forbidden) > FORBIDDEN_MAX:
            del self._forbidden[next(iter(self._forbidden))]

    def is_forbidden(self, peer: PeerId) -> bool:
        """True while a peer is shut out."""
        until = self._forbidden.get(peer)
        if until is not None and until <= trio.current_time():
            del self._forbidden[peer]
            return False
        return until is not None


@dataclass(slots=True)
class Backoff:
    """Waits that double from `BACKOFF_MIN_S` to `BACKOFF_MAX_S`, each between half and all of it."""

    dice: random.Random
    wait: float = BACKOFF_MIN_S

    def next(self) -> float:
        """Seconds to wait now; the next wait is longer."""
        now, self.wait = self.wait, min(self.wait * 2, BACKOFF_MAX_S)
        return now * self.dice.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Something worked."""
        self.wait = BACKOFF_MIN_S
