"""`shoal job evidence` and `shoal job appeal`: why a result was judged so, and to contest it.

A renter asks a gateway; a provider asks its own node (`--data`), which signs for it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shoal import exits
from shoal.commands.words import Nouns, agreed, client, control, require_answer
from shoal.output import Output, money

if TYPE_CHECKING:
    from gateway.proof_schemas import Claim, Evidence

JOB_HELP = "job id, job_…"


def register(verbs: Nouns, voice: argparse.ArgumentParser) -> None:
    """The two commands and their flags."""
    evidence = verbs.add_parser("evidence", parents=[voice], help="why claims were judged so, and until when to appeal")
    evidence.add_argument("job", help=JOB_HELP)
    evidence.add_argument("chunk", nargs="?", type=int, help="of this chunk alone")
    evidence.set_defaults(run=run_evidence)
    appeal = verbs.add_parser("appeal", parents=[voice], help="contest a decision about a chunk, against a bond")
    appeal.add_argument("job", help=JOB_HELP)
    appeal.add_argument("chunk", type=int, help="number of the chunk")
    appeal.add_argument("--bond", type=int, default=0, metavar="UNITS", help="smallest units (default: the least)")
    appeal.add_argument("--epoch", type=int, default=0, help="of the claim (default: the newest)")
    appeal.add_argument("-y", "--yes", action="store_true", help="agree to the bond beforehand")
    appeal.set_defaults(run=run_appeal)
    for verb in (evidence, appeal):
        verb.add_argument("--data", type=Path, metavar="DIR", help="as a provider: ask this node, not a gateway")


def run_evidence(args: argparse.Namespace, out: Output) -> int:
    """Decisions in order, then what is not final."""
    from msgspec import to_builtins

    from shoal.proof_text import evidence_text

    found = _evidence(args)
    out.data(to_builtins(found), lambda: evidence_text(found))
    return exits.OK


def run_appeal(args: argparse.Namespace, out: Output) -> int:
    """Name the bond, ask, appeal."""
    from msgspec import to_builtins

    from shoal.proof_text import appeal_pairs, claim_text

    require_answer(args)
    if not args.yes:
        open_claims = [one for one in _evidence(args).claims if not one.end and args.epoch in (0, one.epoch)]
        for one in open_claims[-1:]:
            out.say(claim_text(one))
            out.say(f"bond {money(args.bond or one.bond_min)}: lost if the panel finds the same")
    if not agreed("Appeal?", args, out):
        out.say("Nothing was staked.")
        return exits.OK
    claim = _appealed(args)
    out.data(to_builtins(claim), lambda: appeal_pairs(claim))
    return exits.OK


def _evidence(args: argparse.Namespace) -> Evidence:
    from msgspec import convert

    from gateway.proof_schemas import Evidence

    if args.data is None:
        with client(args) as gateway:
            return gateway.evidence(args.job, args.chunk)
    with control(args) as node:
        return convert(node.call("job.evidence", {"job": args.job, "chunk": args.chunk}), Evidence)


def _appealed(args: argparse.Namespace) -> Claim:
    from msgspec import convert

    from gateway.proof_schemas import Claim

    if args.data is None:
        with client(args) as gateway:
            return gateway.appeal(args.job, args.chunk, args.bond, args.epoch)
    wanted = {"job": args.job, "chunk": args.chunk, "bond": args.bond, "epoch": args.epoch}
    with control(args) as node:
        return convert(node.call("job.appeal", wanted), Claim)
