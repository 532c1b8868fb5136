"""`shoal node reclaim`: give me my GPU back. What runs is handed over with a snapshot, and told line by line."""

from __future__ import annotations

import argparse
import re
from typing import Final

from protocol.errors import Refused
from protocol.units import PPM, SECOND
from shoal import exits
from shoal.commands.words import Nouns, add_data, node_folder
from shoal.output import Output, money, short_peer, span_text, table

WAIT_S: Final = 15.0
"""Seconds beyond the notice until a node that says nothing is given up."""

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|min)?")
_UNITS: Final = {"ms": 1_000, "s": SECOND, None: SECOND, "m": 60 * SECOND, "min": 60 * SECOND}


def add(verbs: Nouns, voice: argparse.ArgumentParser, data_help: str) -> None:
    """The command and its flags."""
    verb = verbs.add_parser("reclaim", parents=[voice], help="give me my GPU back: hand running work over, now")
    verb.add_argument("--notice", default="10s", metavar="TIME", help="how long it may take (default %(default)s)")
    add_data(verb, data_help)
    verb.set_defaults(run=run)


def span(text: str) -> int:
    """Microseconds of `10s`, `500ms`, `2m` or a bare number of seconds.

    >>> span("10s"), span("1.5")
    (10000000, 1500000)
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise Refused(f"{text:.40} is no time", code="usage", fix="Write a time such as 10s or 1m.")
    return int(float(found[1]) * _UNITS[found[2]])


def run(args: argparse.Namespace, out: Output) -> int:
    """Ask the node, wait, tell."""
    from node.control_client import ControlClient

    notice = span(args.notice)
    with ControlClient(node_folder(args) / "control.sock", notice / SECOND + WAIT_S) as node:
        answer = node.call("node.reclaim", {"notice": notice})
    out.data(answer, lambda: text(answer, notice))
    out.say("The machine is yours. Take work again with `shoal node drain --resume`.")
    return exits.OK


def text(answer: dict[str, object], notice: int) -> str:
    """What was handed to whom, at which step, and what will be paid for it."""
    rows = answer["leaving"]
    leaving = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if not leaving:
        return "nothing was running"
    handed = [row for row in leaving if row["phase"] == "handed"]
    lines = [
        (str(row["job"])[:12], row["chunk"], _said(row["phase"]), short_peer(row["to"]) if row["to"] else "anyone",
         row["step"] or "–", f"{int(row['done_ppm']) * 100 / PPM:.1f} %", money(row["pay"]), row["reason"] or "–")
        for row in leaving
    ]  # fmt: skip
    heads = ("job", "chunk", "became", "goes on at", "step", "done", "will be paid", "why")
    total = money(sum(int(row["pay"]) for row in handed))
    sums = (
        f"{len(handed)} of {len(leaving)} handed over within {span_text(notice)}; "
        f"{total} credits are paid to you when their chunks are accepted"
    )
    return f"{table(heads, lines, right=(1, 4, 5, 6))}\n{sums}"


def _said(phase: object) -> str:
    return {"handed": "handed over", "given_back": "given back", "finished": "finished"}.get(str(phase), str(phase))
