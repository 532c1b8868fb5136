"""What the running node says of its reachability (`network.status`), as findings of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from node.findings import Check, check
from protocol.offers import OFFER_SKEW_MAX
from protocol.overlay.clock_skew import SKEW_WARN
from protocol.units import SECOND

KINDS: Final = {
    "none": "no NAT: this machine has a public address",
    "cone": "endpoint-independent (a cone): others can be told where to find us, hole punching works",
    "symmetric": "address- or port-dependent (symmetric): hole punching rarely works, relays carry what it cannot",
    "unknown": "not known yet: fewer than two peers of different networks have said how they see us",
}

SHOWN_FIXES: Final = {
    "too_slow": "Let the node measure again (delete capability.json), and keep other work off its cores.",
    "wrong_row": "This machine computes wrongly: test its memory and its card.",
    "no_answer": "Give a card's node a runtime called torch or cupy, with PyTorch or CuPy for that card.",
}
"""What an owner does about a claim that was not shown."""

METHOD_NAMES: Final = {"pcp": "PCP", "nat_pmp": "NAT-PMP", "upnp": "UPnP"}


class NatView(Struct, frozen=True):
    """`nat` of the status."""

    kind: str = "unknown"
    keeps_port: bool | None = None
    is_carrier: bool | None = None
    external: str = ""


class LeaseView(Struct, frozen=True):
    """One open port."""

    method: str
    internal_port: int
    external_ip: str
    external_port: int
    expires: int


class MappingView(Struct, frozen=True):
    """`mapping` of the status."""

    gateway: str = ""
    router_ip: str = ""
    is_needed: bool = True
    is_on: bool = True
    leases: tuple[LeaseView, ...] = ()
    failures: dict[str, str] = {}


class WitnessView(Struct, frozen=True):
    """One signed word."""

    peer: str
    address: str
    outcome: str


class ReachabilityView(Struct, frozen=True):
    """`reachability` of the status."""

    state: str = "unknown"
    addresses: tuple[str, ...] = ()
    signed_by: int = 0
    asked: int = 0
    witnesses: tuple[WitnessView, ...] = ()
    doubts: dict[str, int] = {}


class RelayView(Struct, frozen=True):
    """One chosen relay."""

    peer: str
    address: str = ""


class BenchmarkView(Struct, frozen=True):
    """What a peer found when it put the offer to the test."""

    peer: str
    kind: str
    code: str
    took: int = 0
    limit: int = 0


class NetworkView(Struct, frozen=True):
    """`network.status` as far as the doctor reads it."""

    nat: NatView = NatView()
    mapping: MappingView = MappingView()
    reachability: ReachabilityView = ReachabilityView()
    relays: tuple[RelayView, ...] = ()
    skew_us: int | None = None
    twins: tuple[str, ...] = ()
    benchmarks: tuple[BenchmarkView, ...] = ()


def live_checks(status: Mapping[str, object], now: int) -> list[Check]:
    """Findings from a running node's `network.status`. `now` in microseconds since the epoch."""
    try:
        view = msgspec.convert(status, NetworkView)
    except msgspec.ValidationError as error:
        return [check("network", "warn", f"the node answers unlike this doctor: {error}", "Restart the node.")]
    return [
        *_twins(view.twins),
        _nat(view.nat),
        _mapping(view, now),
        _reachability(view),
        _relays(view),
        *_skew(view.skew_us),
        *_benchmarks(view.benchmarks),
    ]


def _benchmarks(found: tuple[BenchmarkView, ...]) -> list[Check]:
    """The newest word of each peer on each kind of claim; nothing where nobody asked."""
    newest = {(one.peer, one.kind): one for one in found}.values()
    against = [one for one in newest if one.code != "plausible"]
    if not against:
        return [check("benchmarks", "ok", f"{len(newest)} claims were shown to others")] if newest else []
    one = against[-1]
    figures = f" ({one.took / SECOND:.1f} s of {one.limit / SECOND:.1f} s)" if one.took else ""
    detail = (
        f"{one.peer} finds what is offered as {one.kind} {one.code}{figures}; {len(against)} of {len(newest)} claims"
    )
    return [check("benchmarks", "warn", detail, SHOWN_FIXES.get(one.code, SHOWN_FIXES["too_slow"]))]


def _twins(twins: tuple[str, ...]) -> list[Check]:
    if not twins:
        return []
    fix = "Stop one of the two nodes, and give it a data folder and key of its own: two with one key lose stake."
    return [check("key in use twice", "fail", f"another node uses this node's key at {', '.join(twins)}", fix)]


def _nat(nat: NatView) -> Check:
    words = [KINDS.get(nat.kind, nat.kind)]
    if nat.external:
        words.append(f"seen at {nat.external}")
    if nat.keeps_port is not None and nat.kind != "none":
        words.append("the port is kept" if nat.keeps_port else "the port is changed")
    if nat.is_carrier:
        words.append("behind the provider's own NAT as well")
    return check("nat", "ok", "; ".join(words))


def _mapping(view: NetworkView, now: int) -> Check:
    mapping = view.mapping
    if not mapping.is_on:
        return check("router", "ok", "port mapping is switched off (port_mapping)")
    if not mapping.is_needed:
        return check("router", "ok", "no port mapping needed: this machine has a public address")
    if mapping.leases:
        ports = ", ".join(
            f"{lease.internal_port} at {lease.external_ip}:{lease.external_port} "
            f"({METHOD_NAMES.get(lease.method, lease.method)}, {max(0, lease.expires - now) // (60 * SECOND)} min left)"
            for lease in mapping.leases
        )
        return check("router", "ok", f"open: {ports}")
    if not mapping.gateway:
        return check("router", "ok", "no router: there is no default route")
    why = "; ".join(f"{METHOD_NAMES.get(name, name)}: {text}" for name, text in mapping.failures.items())
    detail = f"{mapping.gateway} opened no port ({why or 'still being asked'})"
    if view.reachability.state == "public" or not why:
        return check("router", "ok", detail)
    return check("router", "warn", detail, _open_it(view))


def _reachability(view: NetworkView) -> Check:
    reach = view.reachability
    who = ", ".join(dict.fromkeys(f"…{word.peer[-12:]}: {word.outcome}" for word in reach.witnesses))
    signed = f"{reach.signed_by} of {reach.asked} random peers signed that they reached it" + f" ({who})" * bool(who)
    if reach.state == "public":
        return check("reachability", "ok", f"public at {', '.join(reach.addresses)}: {signed}")
    if reach.state == "private":
        return check("reachability", "warn", f"private: {signed}", _open_it(view))
    fix = "Wait a minute; if it stays so, add bootstraps: two peers of different networks must have tried."
    return check("reachability", "warn", f"not known yet: {signed}", fix)


def _open_it(view: NetworkView) -> str:
    nat, mapping = view.nat, view.mapping
    port = next((lease.internal_port for lease in mapping.leases), 0)
    if nat.is_carrier:
        return "The provider's NAT cannot be opened from here: ask it for a public IPv4 address or for IPv6."
    if any(word.outcome == "other_key" for word in view.reachability.witnesses):
        return "The router forwards this port to another machine: give this node another port (--listen)."
    if mapping.leases:
        return f"The router says that port {port} is open, yet nobody gets in: look for a firewall on this machine."
    if nat.kind == "none" or not mapping.is_needed:
        return "This machine has a public address, yet nobody gets in: allow the node's TCP port in its firewall."
    if not mapping.is_on:
        return "Switch port mapping on (port_mapping = true), or forward the node's TCP port in the router."
    router = f"the router at {mapping.gateway}" if mapping.gateway else "the router"
    return f"Switch UPnP or NAT-PMP on in {router}, or forward the node's TCP port to this machine."


def _relays(view: NetworkView) -> Check:
    if view.relays:
        names = ", ".join(f"…{relay.peer[-12:]}" for relay in view.relays)
        return check("relays", "ok", f"{len(view.relays)} chosen: {names}")
    if view.reachability.state == "private":
        fix = "Wait a minute; if it stays so, add bootstraps: some public peer must offer to be a relay."
        return check("relays", "warn", "none, and this node is private: nobody reaches it", fix)
    return check("relays", "ok", "none needed")


def _skew(skew: int | None) -> list[Check]:
    if skew is None:
        return []
    effect = "; what this node signs looks expired or from the future to them, so it gets no work"
    detail = f"peers' clocks are {abs(skew) / SECOND:.1f} s {'ahead of' if skew > 0 else 'behind'} ours (median)"
    if abs(skew) > SKEW_WARN:
        return [
            check(
                "clock skew",
                "warn",
                detail + effect * (abs(skew) > OFFER_SKEW_MAX),
                "Set the clock by NTP (systemd-timesyncd), then restart the node.",
            )
        ]
    return [check("clock skew", "ok", detail)]
