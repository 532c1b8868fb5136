"""What the doctor finds out about the network by itself, without a running node: routes, router, bootstraps."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import trio

from node.addresses import is_dialable, split_address
from node.config import Config, identity
from node.findings import Check, Status, check
from node.reach.gateway_route import Route, has_ipv6, read_addresses, read_route
from node.reach.knock import knock
from node.reach.pcp import RouterLine, open_line
from node.reach.upnp import UpnpRouter
from protocol.errors import Refused, Unavailable
from protocol.identity import peer_text
from protocol.overlay import nat_pmp, pcp
from protocol.overlay.endpoint import is_carrier, is_global
from protocol.overlay.verdicts import Outcome

PROBE_S: Final = 2.0
"""Deadline of each question to the router: at home it answers within a tenth of a second, or never."""

BOOTSTRAP_S: Final = 4.0
"""Deadline of the connection to a bootstrap; its handshake has as much again."""

BOOTSTRAPS_MAX: Final = 16
"""Bootstraps tried; a list is rarely longer, and a report should be read."""

OUTCOMES: Final[dict[Outcome, tuple[str, str]]] = {
    "reachable": ("answers", ""),
    "refused": ("the machine is there, but no node listens", "Ask its owner, or name another --bootstrap."),
    "silent": (
        "no answer: it is down, or a firewall drops outgoing TCP to that port",
        "Try another network or --bootstrap; a firewall must allow outgoing TCP.",
    ),
    "other_key": (
        "answers with another key than its address says: not the peer that you were told of",
        "Do not trust that address; get a new one from the people of the network.",
    ),
    "no_handshake": ("something answers that is no node", "Check address and port."),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is examined. `folder` = the node's data."""

    folder: Path
    listen: Sequence[str] = ()
    bootstraps: Sequence[str] = ()


async def examine(around: Surroundings) -> list[Check]:
    """Every local check; takes as long as the slowest deadline, 8 s at most."""
    addresses, route = read_addresses(), read_route()
    checks = [*check_addresses(around), *check_identity(around.folder), check_route(route, addresses)]
    checks.append(check_ipv6(addresses))
    if route is None:
        return checks
    found: list[Check] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_into, found, check_router, route)
        nursery.start_soon(_bootstraps_into, found, around)
    return [*checks, *sorted(found, key=lambda one: one["name"], reverse=True)]


def check_addresses(around: Surroundings) -> list[Check]:
    """Addresses of the configuration that can never work."""
    wrong = [
        check("address", "fail", f"listen address {text!r} is malformed", "Write it like /ip4/0.0.0.0/tcp/4301.")
        for text in around.listen
        if not _can_be_listened_on(text)
    ]
    for text in around.bootstraps:
        try:
            split_address(text)
        except Refused as refusal:
            wrong.append(check("address", "fail", f"bootstrap: {refusal.detail}", refusal.fix))
    return wrong


def check_identity(folder: Path) -> list[Check]:
    """The key file, where there is one: whole, and nobody else's to read."""
    if not (folder / "identity.seed").exists():
        return []
    try:
        me = identity(Config(data=folder))
    except (Refused, Unavailable) as error:
        return [check("identity", "fail", error.detail, error.fix)]
    except PermissionError:
        fix = "Run as the user who owns the node."
        return [check("identity", "fail", f"{folder / 'identity.seed'} cannot be read by this user", fix)]
    return [check("identity", "ok", peer_text(me.peer))]


def check_route(route: Route | None, addresses: Sequence[str]) -> Check:
    """A way out of this machine."""
    own = ", ".join(addresses[:4]) or "no address"
    if route is None:
        fix = "Plug in the network or connect to one; without, only nodes on this machine are reached."
        return check("route", "warn", f"no default route ({own})", fix)
    return check("route", "ok", f"{route.interface} to {route.gateway or 'a point-to-point link'} ({own})")


def check_ipv6(addresses: list[str]) -> Check:
    """IPv6 gives every machine an address of its own; not having it is fine."""
    return check("ipv6", "ok", "reaches the IPv6 internet" if has_ipv6(addresses) else "none; IPv4 is enough")


async def check_router(route: Route) -> Check:
    """Which way of opening ports the router offers. All are asked at once."""
    if not route.gateway:
        return check("router", "ok", "none: a point-to-point link")
    try:
        line = await open_line(route.gateway)
    except Unavailable as error:
        return check("router", "warn", error.detail, "Check the cable or the wireless link.")
    line.close()
    if is_global(line.client_ip):
        return check("router", "ok", f"not needed: {line.client_ip} is a public address")
    found: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for name, probe in (("PCP", _probe_pcp), ("NAT-PMP", _probe_nat_pmp), ("UPnP", _probe_upnp)):
            nursery.start_soon(_probe, found, name, probe, route.gateway)
    return router_check(route.gateway, {name: found[name] for name in ("PCP", "NAT-PMP", "UPnP") if name in found})


def router_check(gateway: str, found: dict[str, str]) -> Check:
    """A finding from what the router said by each protocol; '' = it speaks it, but names no outside address."""
    if not found:
        fix = f"Switch UPnP or NAT-PMP on in the router at {gateway} (or forward the node's TCP port to this machine)."
        return check("router", "warn", f"{gateway} opens no ports: neither PCP nor NAT-PMP nor UPnP answers", fix)
    external = next((ip for ip in found.values() if ip), "")
    detail = f"{gateway} speaks {', '.join(found)}" + f"; outside it is {external}" * bool(external)
    if external and (is_carrier(external) or not is_global(external)):
        fix = "Ask the provider for a public IPv4 address, or for IPv6; until then relays carry what comes in."
        return check("router", "warn", f"{detail}, which is behind the provider's own NAT", fix)
    return check("router", "ok", detail)


async def check_bootstrap(text: str) -> Check | None:
    """One bootstrap: who answers there. None when the address is malformed, which is a finding of its own."""
    try:
        peer, address = split_address(text)
    except Refused:
        return None
    name = f"bootstrap {address}"
    ips = await _resolve(address)
    if not ips:
        return check(name, "warn", "its name has no address", "Check the name and this machine's DNS.")
    outcome: Outcome = "silent"
    for ip in ips:
        outcome = await knock(ip, int(address.rpartition("/")[2]), peer, BOOTSTRAP_S)
        if outcome == "reachable":
            break
    detail, fix = OUTCOMES[outcome]
    status: Status = "ok" if outcome == "reachable" else "fail" if outcome == "other_key" else "warn"
    return check(name, status, detail, fix)


def port_holder(port: int) -> str:
    """Who listens on a TCP port, as far as this user may know; empty otherwise."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return ""
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            try:
                return f"{psutil.Process(one.pid).name()} (process {one.pid})"
            except psutil.Error:
                return f"process {one.pid}"
    return ""


# ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _can_be_listened_on(text: str) -> bool:
    parts = text.split("/")
    if len(parts) != 5:
        return False
    wildcard = parts[2] in ("0.0.0.0", "::")
    port = "1" if parts[4] == "0" else parts[4]
    host = ("127.0.0.1" if parts[1] == "ip4" else "::1") if wildcard else parts[2]
    return is_dialable(f"/{parts[1]}/{host}/{parts[3]}/{port}")


async def _into(found: list[Check], work: Callable[[Route], Awaitable[Check]], route: Route) -> None:
    found.append(await work(route))


async def _bootstraps_into(found: list[Check], around: Surroundings) -> None:
    async def one(text: str) -> None:
        result = await check_bootstrap(text)
        if result is not None:
            found.append(result)

    async with trio.open_nursery() as nursery:
        for text in dict.fromkeys(around.bootstraps[:BOOTSTRAPS_MAX]):
            nursery.start_soon(one, text)


async def _resolve(address: str) -> list[str]:
    _, kind, host, _, port = address.split("/")
    if kind in ("ip4", "ip6"):
        return [str(ipaddress.ip_address(host))]
    try:
        with trio.fail_after(BOOTSTRAP_S):
            found = await trio.socket.getaddrinfo(host, int(port), type=trio.socket.SOCK_STREAM)
    except (OSError, trio.TooSlowError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:4]


async def _probe(found: dict[str, str], name: str, probe: Callable[[str], Awaitable[str | None]], gateway: str) -> None:
    with trio.move_on_after(PROBE_S + (1.0 if name == "UPnP" else 0.0)):
        try:
            answer = await probe(gateway)
        except Unavailable:
            return
        if answer is not None:
            found[name] = answer


async def _ask(gateway: str, request: Callable[[RouterLine], bytes]) -> bytes | None:
    line = await open_line(gateway)
    try:
        for _ in range(3):
            await line.send(request(line))
            with trio.move_on_after(PROBE_S / 3):
                return await line.receive()
    finally:
        line.close()
    return None


async def _probe_pcp(gateway: str) -> str | None:
    data = await _ask(gateway, lambda line: pcp.announce_request(line.client_ip))
    return "" if data is not None and isinstance(pcp.read_reply(data), pcp.Reply) else None


async def _probe_nat_pmp(gateway: str) -> str | None:
    data = await _ask(gateway, lambda line: nat_pmp.external_request())
    reply = nat_pmp.read_reply(data) if data is not None else None
    if reply is None or reply.result:
        return None
    return reply.said.ip if isinstance(reply.said, nat_pmp.External) else ""


async def _probe_upnp(gateway: str) -> str | None:
    line = await open_line(gateway)
    line.close()
    return await UpnpRouter(line.client_ip).find()
