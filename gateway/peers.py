"""Peers as the node describes them, made safe to show."""

from __future__ import annotations

from gateway.answers import node_value
from gateway.schemas import Peer


def peers_of(answer: dict[str, object]) -> list[Peer]:
    """`node.peers` as structs. Cards and runtimes that come as bare names become named entries."""
    listed = answer.get("peers")
    return (
        [node_value(_named(one), Peer) for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    )


def _named(peer: dict[str, object]) -> dict[str, object]:
    result = dict(peer)
    for field in ("gpus", "runtimes"):
        entries = peer.get(field)
        if isinstance(entries, list | tuple):
            result[field] = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    return result
