"""The table of attacks on a live node: a row is a name, what the attacker does, and what must hold besides for all.

For all rows holds: honest peers are served, memory is bounded, the node lives, and everything is given back after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.attacks import on_gossip, on_muxer, on_sessions, on_sockets
from tests.attacks.ground import Report
from tests.attacks.strangers import Attack

ATTACKS: Final[dict[str, Attack]] = {
    **on_sockets.ATTACKS, **on_muxer.ATTACKS, **on_sessions.ATTACKS, **on_gossip.ATTACKS,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One attack."""

    name: str
    holds: Callable[[Report], bool]
    seconds: float = 0.6


CUT_S: Final = 60.0
"""How long an attacker waits that has to be cut, which on an idle machine takes no second."""


def is_cut(report: Report) -> bool:
    """The victim ended the attacker's connection."""
    return bool(report["cut"])


def anything(report: Report) -> bool:
    """The attack took place; what holds for all is enough."""
    return all(report.get(name, 1) for name in ("inside", "opened", "greeted", "secured", "sent", "asked"))


def all_cut(report: Report) -> bool:
    """Every one of them was cut."""
    return report["inside"] > 0 and report["cut"] == report["inside"]


ROWS: Final = (
    Row("connects", lambda told: told["opened"] >= told["tried"] * 0.9),
    Row("silent sockets", lambda told: told["opened"] > 400 and told["ended"] >= told["opened"] - 128, 2.0),
    Row("half a negotiation", anything),
    Row("half of Noise", anything),
    Row("no muxer", anything),
    Row("rubbish at the door", anything, 0.2),
    Row("data port: silence", lambda told: told["opened"] > 400 and told["ended"] >= 200),
    Row("data port: rubbish", anything, 0.2),
    Row("data port: replay", lambda told: bool(told["met"]) and told["refused"] == 3),
    Row("a thousand streams left", anything),
    Row("rapid reset", is_cut, CUT_S),
    Row("window ignored", is_cut, CUT_S),
    Row("windows filled", anything),
    Row("never reads", anything),
    Row("tiny windows", anything),
    Row("frame of 4 GiB", is_cut, CUT_S),
    Row("frame for nobody", is_cut, CUT_S),
    Row("frame of no kind", is_cut, CUT_S),
    Row("credit without end", is_cut, CUT_S),
    Row("pings without end", is_cut, CUT_S),
    Row("forged records", is_cut, CUT_S),
    Row("Hello of another network", is_cut, CUT_S),
    Row("Hello of another version", is_cut, CUT_S),
    Row("a second Hello", is_cut, CUT_S),
    Row("no Hello", is_cut, CUT_S),
    Row("Ack of the future", anything),
    Row("Skip backwards", is_cut, CUT_S),
    Row("gaps without end", anything),
    Row("rubbish in a session", is_cut, CUT_S),
    Row("a frame too long", is_cut, CUT_S),
    Row("Hellos without end", anything),
    Row("one session twice", anything),
    Row("silent peers", anything),
    Row("slow streams", anything),
    Row("slow questions", anything),
    Row("oversized messages", anything, 0.5),
    Row("identify pushed", anything),
    Row("IHAVE spam", anything),
    Row("IWANT spam", anything),
    Row("GRAFT and PRUNE flapping", anything),
    Row("subscriptions flood", anything),
    Row("IDONTWANT spam", anything),
    Row("forged authors", all_cut, CUT_S),
    Row("bad signatures", all_cut, CUT_S),
    Row("authors without end", anything),
    Row("statements of yesterday", anything),
    Row("statements of tomorrow", anything),
    Row("RPC of a gigabyte", anything),
    Row("varint without end", anything),
    Row("RPC of rubbish", anything),
    Row("gossip streams without end", anything),
    Row("false records", lambda told: told["asked"] == 13 and told["kept"] == 0),
    Row("an older record", lambda told: bool(told["took_new"]) and not told["took_old"] and not told["is_old"]),
    Row("questions without end", anything),
)
