"""What the doctor makes of a running node's word about its network: one clear line each, and the one thing to fix."""

from __future__ import annotations

import random
from typing import Final

import pytest

from node.doctor_reach import live_checks
from node.findings import Check, check, fix_first
from node.reach.port_mapper import MappingStatus
from node.reach.reach_status import reach_status
from protocol.identity import Identity
from protocol.overlay.nat_kind import Nat
from protocol.overlay.reachability import Reachability
from protocol.units import MINUTE, SECOND, Micros

NOW: Final = Micros(1_800_000_000 * SECOND)
ME: Final = Identity(b"m" * 32)
WITNESS: Final = "12D3KooWGzh3sp4BcH9HmXVKzFRmkKt2nrVLBuXvDgKyjGjQVBkw"


def status(
    state: str,
    outcome: str = "silent",
    leases: int = 0,
    carrier: bool | None = None,
    kind: str = "cone",
    **more: object,
) -> dict[str, object]:
    lease = {
        "method": "nat_pmp", "internal_port": 4301, "external_ip": "44.1.2.3", "external_port": 4301,
        "expires": NOW + 90 * MINUTE,
    }  # fmt: skip
    base: dict[str, object] = {
        "nat": {"kind": kind, "keeps_port": True, "is_carrier": carrier, "external": "44.1.2.3"},
        "mapping": {
            "gateway": "192.168.1.1",
            "leases": [lease] * leases,
            "failures": {} if leases else {"pcp": "no answer", "upnp": "switched off"},
        },
        "reachability": {
            "state": state,
            "addresses": ["/ip4/44.1.2.3/tcp/4301"] if state == "public" else [],
            "signed_by": 3 if state == "public" else 0,
            "asked": 3,
            "witnesses": [{"peer": WITNESS, "address": "/ip4/44.1.2.3/tcp/4301", "outcome": outcome}],
        },
    }
    return base | more


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {one["name"]: one for one in checks}


def test_all_is_well() -> None:
    found = live_checks(status("public", "reachable", leases=1), NOW)
    assert all(one["status"] == "ok" for one in found)
    assert fix_first(found) == ""
    lines = by_name(found)
    assert "3 of 3 random peers signed" in lines["reachability"]["detail"]
    assert WITNESS[-12:] in lines["reachability"]["detail"]
    assert "NAT-PMP, 90 min left" in lines["router"]["detail"]
    assert "cone" in lines["nat"]["detail"]
    assert lines["relays"]["detail"] == "none needed"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (status("private"), "Switch UPnP or NAT-PMP on in the router at 192.168.1.1"),
        (status("private", carrier=True), "provider's NAT"),
        (status("private", leases=1), "firewall on this machine"),
        (status("private", "other_key"), "another machine"),
        (status("private", kind="none"), "allow the node's TCP port"),
        (status("private", mapping={"is_on": False}), "port_mapping = true"),
        (status("unknown"), "Wait a minute"),
    ],
)
def test_the_one_thing_to_fix(said: dict[str, object], words: str) -> None:
    found = live_checks(said, NOW)
    assert words in fix_first(found)
    assert all(one["fix"] for one in found if one["status"] != "ok")


def test_two_nodes_with_one_key_come_first() -> None:
    found = live_checks(status("private", twins=["66.6.6.6"]), NOW)
    assert by_name(found)["key in use twice"]["status"] == "fail"
    assert "Stop one of the two nodes" in fix_first(found)


def test_clocks_and_relays() -> None:
    relays = [{"peer": WITNESS, "address": "/ip4/11.1.0.1/tcp/4301"}]
    found = by_name(live_checks(status("private", skew_us=-9 * SECOND, relays=relays), NOW))
    assert (found["clock skew"]["status"], "9.0 s behind" in found["clock skew"]["detail"]) == ("warn", True)
    assert (found["relays"]["status"], "1 chosen" in found["relays"]["detail"]) == ("ok", True)
    assert by_name(live_checks(status("private"), NOW))["relays"]["status"] == "warn"
    assert by_name(live_checks(status("public", skew_us=1000), NOW))["clock skew"]["status"] == "ok"


def test_a_node_that_says_something_else() -> None:
    (line,) = live_checks({"nat": "?"}, NOW)
    assert (line["status"], bool(line["fix"])) == ("warn", True)


def test_a_fresh_node_s_own_status_is_understood() -> None:
    """What `network.status` really answers fits what the doctor reads."""
    machine = Reachability(ME.peer, "reef", random.Random(1))
    mapping = MappingStatus("192.168.1.1", "", (), (("pcp", "no answer"),), is_needed=True, is_on=True)
    found = by_name(live_checks(reach_status(Nat(), mapping, machine, ["/ip4/66.6.6.6/tcp/1"]), NOW))
    assert found["key in use twice"]["status"] == "fail"
    assert "not known yet" in found["nat"]["detail"]
    assert found["router"]["status"] == "warn"


def test_an_exact_name_decides_the_rank() -> None:
    """`router` is not `route`."""
    checks = [
        check("router", "warn", "closed", "Open."),
        check("bootstrap /ip4/1.2.3.4/tcp/1", "warn", "dead", "Other."),
    ]
    assert fix_first(checks) == "Other."
    assert fix_first([*checks, check("disk", "fail", "full", "Free.")]) == "Free."


def test_what_others_found_of_the_offer_is_told_once_per_peer_and_kind() -> None:
    def rows(*codes: str) -> list[dict[str, object]]:
        times = {"took": 58_000_000, "limit": 2_000_000, "at": 1}
        return [{"peer": "…QmA", "kind": "gpu", "code": code, **times} for code in codes]

    def found(*codes: str) -> list[Check]:
        checks = live_checks({"benchmarks": rows(*codes)}, 0)
        return [one for one in checks if one["name"] == "benchmarks"]

    assert found() == []
    assert [one["status"] for one in found("too_slow", "plausible")] == ["ok"]
    (slow,) = found("plausible", "too_slow")
    assert slow["status"] == "warn" and "58.0 s of 2.0 s" in slow["detail"] and slow["fix"]
