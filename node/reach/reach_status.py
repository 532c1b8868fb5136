"""Reachability as plain values: what `network.status` answers and `shoal doctor` prints."""

from __future__ import annotations

from collections.abc import Iterable

from node.reach.port_mapper import MappingStatus
from protocol.identity import peer_text
from protocol.overlay.nat_kind import Nat
from protocol.overlay.reachability import Reachability
from protocol.units import PeerId

Plain = dict[str, object]


def reach_status(nat: Nat, mapping: MappingStatus, machine: Reachability, twins: Iterable[str]) -> Plain:
    """`nat`, `mapping`, `reachability`, `twins`; JSON-ready, times in microseconds."""
    return {
        "nat": {
            "kind": nat.kind,
            "keeps_port": nat.keeps_port,
            "is_carrier": nat.is_carrier,
            "external": nat.external,
        },
        "mapping": mapping_view(mapping),
        "reachability": reachability_view(machine),
        "twins": list(dict.fromkeys(twins)),
    }


def mapping_view(mapping: MappingStatus) -> Plain:
    """The router and what it gave."""
    return {
        "gateway": mapping.gateway,
        "router_ip": mapping.router_ip,
        "is_needed": mapping.is_needed,
        "is_on": mapping.is_on,
        "leases": [
            {
                "method": lease.method,
                "internal_port": lease.internal_port,
                "external_ip": lease.external_ip,
                "external_port": lease.external_port,
                "expires": lease.expires,
            }
            for lease in mapping.leases
        ],
        "failures": dict(mapping.failures),
    }


def reachability_view(machine: Reachability) -> Plain:
    """What random peers proved, who they are, and their signed words for whoever wants to check them."""
    said_yes: dict[PeerId, bool] = {}
    for word in machine.words:
        said_yes[word.witness] = said_yes.get(word.witness, False) or word.verdict.is_reachable
    return {
        "state": machine.state,
        "addresses": list(machine.public),
        "signed_by": sum(said_yes.values()),
        "asked": machine.asked,
        "witnesses": [
            {
                "peer": peer_text(word.witness),
                "address": word.verdict.address,
                "outcome": word.verdict.outcome,
                "issued": word.verdict.issued,
                "statement": {"body": word.statement.body.hex(), "signature": word.statement.signature.hex()},
            }
            for word in machine.words
        ],
        "doubts": {peer_text(peer): count for peer, count in machine.doubts.items()},
    }
