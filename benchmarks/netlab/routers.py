"""Routers as homes have them, each as the rules of nftables that make one.

What a router does with a new flow has two sides (RFC 4787): the *mapping*, which outside port a flow gets, and the
*filtering*, who may use that port from outside. No router here answers what it does not let in: a reset would end the
simultaneous opening of TCP that hole punching stands on, and hardly any home router sends one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal[
    "public", "full-cone", "address-restricted", "port-restricted", "remapping", "symmetric", "cgnat", "udp-blocked",
    "tcp-only",
]  # fmt: skip
Mapping = Literal["none", "independent", "dependent"]
Filtering = Literal["open", "address", "port", "reply"]
"""Who gets in from outside: anybody, any port of a host that was contacted, only a port that was contacted, and
`reply`: only answers to connections opened from inside, never a peer's SYN."""


@dataclass(frozen=True, slots=True)
class Router:
    """What a kind of router is, as the laboratory promises and its tests check."""

    mapping: Mapping
    filtering: Filtering
    keeps_port: bool
    has_udp: bool
    text: str
    """For tables."""


ROUTERS: Final[dict[Kind, Router]] = {
    "public": Router("none", "open", True, True, "no NAT, no firewall"),
    "full-cone": Router("independent", "open", True, True, "one port for all, anybody gets in"),
    "address-restricted": Router("independent", "address", True, True, "hosts that were contacted get in"),
    "port-restricted": Router("independent", "port", True, True, "ports that were contacted get in"),
    "remapping": Router("independent", "port", False, True, "port-restricted, on another outside port"),
    "symmetric": Router("dependent", "port", False, True, "another outside port for every destination"),
    "cgnat": Router("independent", "port", False, True, "port-restricted home behind a remapping carrier"),
    "udp-blocked": Router("independent", "port", True, False, "port-restricted, drops UDP"),
    "tcp-only": Router("dependent", "reply", False, False, "firewall: only TCP opened from inside, symmetric"),
}
KINDS: Final[tuple[Kind, ...]] = tuple(ROUTERS)

REMEMBERED_S: Final = 120
"""How long a full cone keeps a mapping, and an address-restricted router a contact, without a packet from inside."""

_CHAINS: Final = """\
add table ip home
delete table ip home
add table ip home
add chain ip home early { type filter hook prerouting priority -350 ; }
add chain ip home pre { type nat hook prerouting priority -100 ; }
add chain ip home in { type filter hook input priority 0 ; }
add chain ip home through { type filter hook forward priority 0 ; }
add chain ip home post { type nat hook postrouting priority 100 ; }
add chain ip home last { type filter hook postrouting priority 350 ; }
"""
_QUIET: Final = """\
add rule ip home in iifname wan ct state new,invalid meta l4proto { tcp, udp } drop
add rule ip home through ct state invalid drop
"""
_OWNERS: Final = f"""\
add map ip home owners {{ type inet_proto . inet_service : ipv4_addr ; flags dynamic,timeout ; \
timeout {REMEMBERED_S}s ; size 65535 ; }}
add rule ip home through oifname wan update @owners {{ meta l4proto . th sport : ip saddr }}
add rule ip home pre iifname wan meta l4proto {{ tcp, udp }} dnat to meta l4proto . th dport map @owners
"""
_CONTACTS: Final = f"""\
add set ip home contacts {{ type ipv4_addr . inet_proto . inet_service ; flags dynamic,timeout ; \
timeout {REMEMBERED_S}s ; size 65535 ; }}
add rule ip home through oifname wan update @contacts {{ ip daddr . meta l4proto . th sport }}
add rule ip home through iifname wan ct state new ip saddr . meta l4proto . th dport @contacts accept
"""
_DENY: Final = """\
add rule ip home through ct status dnat accept
add rule ip home through iifname wan ct state new drop
"""
_DENY_UNCONTACTED: Final = "add rule ip home through iifname wan ct state new drop\n"
_MASQUERADE: Final = "add rule ip home post oifname wan masquerade\n"
_SCATTER: Final = "add rule ip home post oifname wan masquerade fully-random\n"
_NO_UDP: Final = "add rule ip home through meta l4proto udp drop\n"
_ONLY_TCP: Final = """\
add rule ip home through meta l4proto != tcp drop
add rule ip home through iifname wan tcp flags & (syn | ack) == syn drop
"""


def _remap(key: int) -> str:
    """Outside ports are inside ports XOR `key`, changed before the connection is tracked and back after: so a mapping
    depends on the inside port alone. (The kernel's own ranges draw a new port for every destination.)"""
    sides = (("early iifname", "sport"), ("last oifname", "dport"))
    return "".join(
        f"add rule ip home {side} lan {protocol} {port} set {protocol} {port} ^ {key}\n"
        for side, port in sides
        for protocol in ("tcp", "udp")
    )


def rules(kind: Kind, key: int, mtu: int) -> str:
    """The commands for nft that turn a namespace with the devices `wan` and `lan` into that router.

    `key` moves the outside ports of a remapping router; the largest segment is clamped to `mtu` bytes, as homes do."""
    if kind == "public":
        return _CHAINS
    clamp = f"add rule ip home through tcp flags & (syn | rst) == syn tcp option maxseg size set {mtu - 40}\n"
    own: dict[Kind, str] = {
        "full-cone": _OWNERS + _MASQUERADE,
        "address-restricted": _OWNERS + _CONTACTS + _DENY_UNCONTACTED + _MASQUERADE,
        "port-restricted": _DENY + _MASQUERADE,
        "remapping": _remap(key) + _DENY + _MASQUERADE,
        "symmetric": _DENY + _SCATTER,
        "cgnat": _DENY + _MASQUERADE,
        "udp-blocked": _NO_UDP + _DENY + _MASQUERADE,
        "tcp-only": _ONLY_TCP + _DENY + _SCATTER,
    }
    return _CHAINS + _QUIET + clamp + own[kind]


def outage(inbound: bool, outbound: bool) -> str:
    """The commands for nft that silently drop what comes from the internet, what leaves to it, or both; or nothing."""
    text = "add table ip outage\ndelete table ip outage\nadd table ip outage\n"
    text += "add chain ip outage before { type filter hook prerouting priority -400 ; }\n"
    text += "add chain ip outage after { type filter hook postrouting priority 400 ; }\n"
    if inbound:
        text += "add rule ip outage before iifname wan drop\n"
    if outbound:
        text += "add rule ip outage after oifname wan drop\n"
    return text


def can_punch(one: Kind, other: Kind, protocol: Literal["tcp", "udp"]) -> bool:
    """Whether two hosts behind these can talk directly when both send at once, each to the other's observed port.

    >>> can_punch("remapping", "cgnat", "tcp"), can_punch("port-restricted", "symmetric", "tcp")
    (True, False)
    >>> can_punch("symmetric", "address-restricted", "udp"), can_punch("udp-blocked", "public", "udp")
    (True, False)
    """
    sides = (ROUTERS[one], ROUTERS[other])
    if protocol == "udp" and not all(side.has_udp for side in sides):
        return False
    if any(side.filtering in ("open", "address") for side in sides):
        return True
    return all(side.mapping == "independent" for side in sides)
