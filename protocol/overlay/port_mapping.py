"""Leases of a router's ports: PCP, else NAT-PMP, else UPnP; renewed at half-life, asked for again after a restart.

A sans-IO machine for one router and a few TCP ports. It is given datagrams, results of UPnP and the time, and returns
what to send. A router that refuses or is silent costs a few datagrams and a pause. Spec: specs/21-reach.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.overlay import nat_pmp, pcp
from protocol.overlay.lease import METHODS, Gained, Lease, Lost, MapByUpnp, MappingEffect, Method, Transmit, UnmapByUpnp
from protocol.units import MINUTE, SECOND, Micros

LIFETIME_S: Final = 7_200
"""Seconds asked for (RFC 6886 §3.3); a node that dies without a word leaves its hole open for no longer."""

LIFETIME_MAX_S: Final = 24 * 3_600
"""No answer is believed for longer: the RFC's own limit for a client."""

LIFETIME_MIN_S: Final = 10
"""A shorter lease is treated as this long, or renewals would never end."""

PCP_FIRST: Final = Micros(3 * SECOND)
"""Microseconds before the first repetition, IRT of RFC 6887 §8.1.1; each wait is twice the last, ± a tenth."""

PCP_TRIES: Final = 2
"""Datagrams before a router is taken for one without PCP: RFC 6887 would ask for ever, but two other ways are left."""

NAT_PMP_FIRST: Final = Micros(SECOND // 4)
"""Microseconds before the first repetition (RFC 6886 §3.1); each wait is twice the last."""

NAT_PMP_TRIES: Final = 5
"""Datagrams before NAT-PMP is given up, of the RFC's nine: after 8 s nobody home is slower."""

UPNP_DEADLINE: Final = Micros(15 * SECOND)
"""Microseconds after which UPnP is given up: a discovery of 2 s, a description and two calls of a slow router."""

CHECK_INTERVAL: Final = Micros(MINUTE)
"""Microseconds between two questions whether the router still is the one that gave the lease."""

UPNP_INTERVAL: Final = Micros(2 * MINUTE)
"""Microseconds between two renewals by UPnP, which has no epoch to ask for: the mapping is written again."""

REST: Final = Micros(10 * MINUTE)
"""Microseconds until a router that gave nothing is asked again: an owner who switches UPnP on need not restart."""

RENEW_GAP_MIN: Final = Micros(4 * SECOND)
"""Least microseconds between two attempts to renew (RFC 6887 §11.2.1)."""


@dataclass(slots=True)
class _Port:
    number: int
    nonce: bytes
    wish: int
    """External port to ask for: the same as inside, later the one that we had."""
    lease: Lease | None = None
    tries: int = 0
    wait: Micros = Micros(0)
    due: Micros = Micros(0)


@dataclass(slots=True)
class _Epoch:
    value: int
    at: Micros


@dataclass(frozen=True, slots=True)
class _Tries:
    first: Micros
    most: int


_TRIES: Final[dict[Method, _Tries]] = {
    "pcp": _Tries(PCP_FIRST, PCP_TRIES),
    "nat_pmp": _Tries(NAT_PMP_FIRST, NAT_PMP_TRIES),
    "upnp": _Tries(UPNP_DEADLINE, 1),
}


@dataclass(slots=True)
class _Talk:
    """How the present method goes."""

    method: Method
    epoch: _Epoch | None = None
    external_ip: str = ""
    check_at: Micros = Micros(0)
    announced_at: Micros = Micros(0)


class PortMapping:
    """The leases of some TCP ports at one router."""

    def __init__(self, client_ip: str, ports: Sequence[int], nonces: Sequence[bytes], dice: random.Random) -> None:
        """`client_ip` = our address towards the router, `nonces` = a secret of 12 bytes for each port."""
        self._client_ip = client_ip
        self._dice = dice
        self._ports = {port: _Port(port, nonce, port) for port, nonce in zip(ports, nonces, strict=True)}
        self._talk = _Talk("pcp")
        self.failures: dict[Method, str] = {}
        """Why a method gave nothing, for `doctor`; cleared when it gives something."""

    @property
    def leases(self) -> list[Lease]:
        """What is open now."""
        return [port.lease for port in self._ports.values() if port.lease is not None]

    @property
    def router_ip(self) -> str:
        """The outside address that the router claims; empty while it claimed none."""
        held = next((lease.external_ip for lease in self.leases if lease.external_ip), "")
        return held or self._talk.external_ip

    @property
    def next_wake(self) -> Micros:
        """When `tick` wants to be called."""
        due = min((port.due for port in self._ports.values()), default=Micros(0))
        return min(due, self._talk.check_at) if self.leases and self._talk.method != "upnp" else due

    # ── what comes in ────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, now: Micros) -> list[MappingEffect]:
        """Ask, repeat, renew, check; let leases end whose time is over."""
        effects: list[MappingEffect] = []
        for port in self._ports.values():
            if port.lease is not None and port.lease.expires <= now:
                effects += self._lose(port, "the lease ended and was not renewed", now)
        for port in list(self._ports.values()):
            if port.due <= now:
                effects += self._ask(port, now)
        if self.leases and self._talk.method != "upnp" and self._talk.check_at <= now:
            self._talk.check_at = Micros(now + CHECK_INTERVAL)
            is_pcp = self._talk.method == "pcp"
            effects.append(Transmit(pcp.announce_request(self._client_ip) if is_pcp else nat_pmp.external_request()))
        return effects

    def datagram(self, data: bytes, now: Micros) -> list[MappingEffect]:
        """A datagram from the router's own address. What is no answer of the method in use is ignored."""
        if self._talk.method == "pcp":
            reply = pcp.read_reply(data)
            if isinstance(reply, pcp.OtherVersion):
                return self._failed(f"the router answers in version {reply.version}", now)
            return [] if reply is None else self._pcp(reply, now)
        if self._talk.method == "nat_pmp":
            answer = nat_pmp.read_reply(data)
            return [] if answer is None else self._nat_pmp(answer, now)
        return []

    def announced(self, data: bytes, now: Micros) -> list[MappingEffect]:
        """The router told everybody that it (re)started, by multicast and in every version that it speaks."""
        is_pcp = isinstance(pcp.read_reply(data), pcp.Reply)
        if not is_pcp and nat_pmp.read_reply(data) is None:
            return []
        if not self.leases:
            self._use(METHODS[0], now)
            return self.tick(now)
        effects = self.datagram(data, now) if is_pcp == (self._talk.method == "pcp") else []
        return effects or self._renew_all(now)

    def _renew_all(self, now: Micros) -> list[MappingEffect]:
        """Ask for what we hold once more: a router that ran for a second only has an epoch that proves no restart."""
        if now < self._talk.announced_at + RENEW_GAP_MIN:
            return []
        self._talk.announced_at = now
        quiet = [port for port in self._ports.values() if port.lease is not None and not port.tries]
        return [effect for port in quiet for effect in self._ask(port, now)]

    def unreachable(self, now: Micros) -> list[MappingEffect]:
        """The router says that nobody listens on port 5351."""
        return [] if self._talk.method == "upnp" else self._failed("the router does not speak it", now)

    def upnp_mapped(
        self, internal_port: int, external_ip: str, external_port: int, lifetime_s: int, now: Micros
    ) -> list[MappingEffect]:
        """UPnP wrote a mapping; lifetime 0 = until deleted."""
        port = self._ports.get(internal_port)
        if self._talk.method != "upnp" or port is None:
            return []
        self._talk.external_ip = external_ip
        return self._hold(port, external_ip, external_port, lifetime_s or LIFETIME_MAX_S, now)

    def upnp_failed(self, why: str, now: Micros) -> list[MappingEffect]:
        """UPnP found no router, or it refused."""
        return self._failed(why, now) if self._talk.method == "upnp" else []

    def close(self) -> list[MappingEffect]:
        """Give every port back (RFC 6887 §15, RFC 6886 §3.4)."""
        effects: list[MappingEffect] = []
        for port in self._ports.values():
            if port.lease is None:
                continue
            match port.lease.method:
                case "pcp":
                    effects.append(Transmit(pcp.map_request(self._client_ip, port.nonce, port.number, 0, "", 0)))
                case "nat_pmp":
                    effects.append(Transmit(nat_pmp.map_request(port.number, 0, 0)))
                case "upnp":
                    effects.append(UnmapByUpnp(port.lease.external_port))
            port.lease = None
        return effects

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _ask(self, port: _Port, now: Micros) -> list[MappingEffect]:
        tries = _TRIES[self._talk.method]
        if port.tries >= tries.most:
            if port.lease is None:
                return self._failed("no answer", now)
            self._retry_later(port, port.lease, now)
            return []
        port.wait = self._next_wait(port, tries)
        port.tries += 1
        port.due = Micros(now + port.wait)
        match self._talk.method:
            case "pcp":
                ip = port.lease.external_ip if port.lease is not None else ""
                data = pcp.map_request(self._client_ip, port.nonce, port.number, port.wish, ip, LIFETIME_S)
                return [Transmit(data)]
            case "nat_pmp":
                request = Transmit(nat_pmp.map_request(port.number, port.wish, LIFETIME_S))
                return [request] if self._talk.external_ip else [Transmit(nat_pmp.external_request()), request]
            case "upnp":
                return [MapByUpnp(port.number, port.wish, LIFETIME_S)]

    def _next_wait(self, port: _Port, tries: _Tries) -> Micros:
        """RFC 6887 §8.1.1: the first wait give or take a tenth, then twice the last give or take a tenth of it."""
        jitter = self._dice.uniform(-0.1, 0.1) if self._talk.method == "pcp" else 0.0
        return Micros(round(tries.first * (1 + jitter)) if not port.tries else round(port.wait * (2 + jitter)))

    def _retry_later(self, port: _Port, lease: Lease, now: Micros) -> None:
        """A renewal that nobody answered is tried again half-way to the end (RFC 6887 §11.2.1)."""
        port.tries = 0
        wait = max(RENEW_GAP_MIN, (lease.expires - now) // 2)
        port.due = Micros(now + (min(wait, UPNP_INTERVAL) if lease.method == "upnp" else wait))

    def _failed(self, why: str, now: Micros) -> list[MappingEffect]:
        """The present method gives no more. With a lease in hand it is kept; else the next method is tried.

        Bad news that nobody asked for is no news: a late answer to an earlier method must not start the next round."""
        if not any(port.tries for port in self._ports.values()):
            return []
        self.failures[self._talk.method] = why
        if self.leases:
            for port in self._ports.values():
                if port.lease is None:
                    port.tries, port.due = 0, Micros(now + REST)
                elif port.tries:
                    self._retry_later(port, port.lease, now)
            return []
        place = METHODS.index(self._talk.method) + 1
        is_end = place == len(METHODS)
        self._use(METHODS[0] if is_end else METHODS[place], Micros(now + REST) if is_end else now)
        return [] if is_end else self.tick(now)

    def _use(self, method: Method, start: Micros) -> None:
        self._talk = _Talk(method)
        for port in self._ports.values():
            port.tries, port.due = 0, start

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _pcp(self, reply: pcp.Reply, now: Micros) -> list[MappingEffect]:
        mapped = reply.mapped
        port = self._ports.get(mapped.internal_port) if mapped is not None else None
        if mapped is not None and (port is None or mapped.nonce != port.nonce):
            return []  # An answer to somebody else, or of somebody who guesses.
        effects = self._heard_epoch(reply.epoch, now)
        if mapped is None or port is None:
            return effects
        if reply.result:
            return effects + self._failed(pcp.result_text(reply.result), now)
        return effects + self._hold(port, mapped.external_ip, mapped.external_port, reply.lifetime, now)

    def _nat_pmp(self, reply: nat_pmp.Reply, now: Micros) -> list[MappingEffect]:
        effects = self._heard_epoch(reply.epoch, now)
        match reply.said:
            case None:
                return effects + self._failed(nat_pmp.result_text(reply.result), now)
            case nat_pmp.External(ip=ip):
                return effects + self._heard_address(ip)
            case nat_pmp.Mapped(internal_port=number, external_port=external, lifetime=lifetime):
                port = self._ports.get(number)
                if port is None or not lifetime:
                    return effects
                return effects + self._hold(port, self._talk.external_ip, external, lifetime, now)

    def _heard_epoch(self, value: int, now: Micros) -> list[MappingEffect]:
        """An epoch that does not follow from the last one: the router restarted, and its table is empty."""
        known, self._talk.epoch = self._talk.epoch, _Epoch(value, now)
        if known is None or not pcp.has_rebooted(known.value, known.at // SECOND, value, now // SECOND):
            return []
        held = [port for port in self._ports.values() if port.lease is not None]
        effects = [effect for port in held for effect in self._lose(port, "the router restarted", now)]
        for port in held:
            effects += self._ask(port, now)
        return effects

    def _heard_address(self, ip: str) -> list[MappingEffect]:
        """NAT-PMP tells the address apart from the ports, and it may change under them."""
        self._talk.external_ip = ip
        effects: list[MappingEffect] = []
        for port in self._ports.values():
            if port.lease is not None and port.lease.external_ip != ip:
                lease = port.lease
                port.lease = Lease(lease.method, lease.internal_port, ip, lease.external_port, lease.expires)
                effects.append(Gained(port.lease))
        return effects

    def _hold(self, port: _Port, ip: str, external: int, lifetime_s: int, now: Micros) -> list[MappingEffect]:
        if not external:
            return []
        span = min(max(lifetime_s, LIFETIME_MIN_S), LIFETIME_MAX_S) * SECOND
        before, method = port.lease, self._talk.method
        if not self.leases:
            self._talk.check_at = Micros(now + CHECK_INTERVAL)
        port.lease = Lease(method, port.number, ip, external, Micros(now + span))
        port.wish, port.tries = external, 0
        half = span // 2 + round(span * self._dice.uniform(0, 0.125))
        port.due = Micros(now + (min(half, UPNP_INTERVAL) if method == "upnp" else half))
        self.failures.pop(method, None)
        is_same = before is not None and (before.external_ip, before.external_port) == (ip, external)
        return [] if is_same or (method == "nat_pmp" and not ip) else [Gained(port.lease)]

    def _lose(self, port: _Port, why: str, now: Micros) -> list[MappingEffect]:
        lease = port.lease
        if lease is None:
            return []
        port.lease, port.tries, port.due = None, 0, now
        if not self.leases and why.startswith("the lease"):
            self._use(METHODS[0], now)
        return [Lost(lease, why)]
