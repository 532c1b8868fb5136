"""Whole nodes behind real routers: the kind of NAT, the port mapping and what three strangers sign about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node.reach.router_lab import OUTSIDE, Event, Guest, Home, guest, home, missing, run

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no router laboratory: {missing()}")

STRANGERS = ("11.1.0.1", "22.2.0.1", "33.3.0.1")
HOME_PORT = 4301


def settle_strangers(house: Home, rules: str = "") -> list[str]:
    """Three addresses of different networks outside; their listen addresses."""
    for ip in STRANGERS:
        run("ip", "-n", house.tag + "p", "addr", "add", f"{ip}/32", "dev", "lo")
    if rules:
        run(*house.inside("r", "nft", "-f", "-"), text=rules)
    return [f"/ip4/{ip}/tcp/4001" for ip in STRANGERS]


def ready(strangers: Guest) -> list[str]:
    """Their full addresses."""
    found = []
    for _ in STRANGERS:
        addresses = strangers.next("ready")["addresses"]
        assert isinstance(addresses, list)
        found.append(str(addresses[0]))
    return found


def part(event: Event, name: str) -> Event:
    value = event[name]
    assert isinstance(value, dict)
    return value


def stands(state: str) -> Callable[[Event], bool]:
    return lambda event: part(event, "reachability")["state"] == state


def test_private_until_the_router_opens_a_port(tmp_path: Path) -> None:
    """No port mapping: three strangers say that nobody gets in. The router learns PCP: they say that they do."""
    with home(tmp_path) as house:
        listen = settle_strangers(house)
        with guest(house, "p", "outlook_process.py", str(tmp_path), "10", *listen) as strangers:
            bootstraps = ready(strangers)
            own = f"/ip4/0.0.0.0/tcp/{HOME_PORT}"
            with guest(house, "h", "outlook_process.py", str(tmp_path), "50", own, "--", *bootstraps) as node:
                private = node.next("status", stands("private"))
                assert part(private, "nat") == {
                    "kind": "cone", "keeps_port": True, "is_carrier": None, "external": OUTSIDE,
                }  # fmt: skip
                assert part(private, "reachability")["asked"] == 3
                house.start_daemon()
                public = node.next("status", stands("public"))
                reach, mapping = part(public, "reachability"), part(public, "mapping")
                assert reach["addresses"] == [f"/ip4/{OUTSIDE}/tcp/{HOME_PORT}"]
                assert (reach["signed_by"], reach["asked"]) == (3, 3)
                assert mapping["router_ip"] == OUTSIDE
                assert part(public, "nat")["is_carrier"] is False
                assert house.can_dial(HOME_PORT)
                node.stop()


def test_a_symmetric_nat_is_recognised(tmp_path: Path) -> None:
    rules = """
        flush chain inet filter post
        add rule inet filter post oifname "wan" masquerade fully-random
    """
    with home(tmp_path) as house:
        listen = settle_strangers(house, rules)
        with guest(house, "p", "outlook_process.py", str(tmp_path), "10", *listen) as strangers:
            bootstraps = ready(strangers)
            own = f"/ip4/0.0.0.0/tcp/{HOME_PORT}"
            with guest(house, "h", "outlook_process.py", str(tmp_path), "50", own, "--", *bootstraps) as node:
                found = node.next("status", lambda event: part(event, "nat")["kind"] == "symmetric")
                assert part(found, "nat")["external"] == OUTSIDE
                assert part(found, "nat")["keeps_port"] is False
                node.next("status", stands("private"))
