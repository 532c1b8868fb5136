"""`shoal job evidence` and `shoal job appeal`: why a result was judged so, and to contest it.

A renter asks a gateway; a provider asks its own node (`--data`), which signs for it. `--replay` has the chunk executed
before anything is staked, and gives the game of the third round its second history.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from shoal import exits
from shoal.commands.words import Nouns, agreed, client, control, require_answer
from shoal.output import Output, money, size_text

if TYPE_CHECKING:
    from gateway.proof_schemas import Claim, Evidence

JOB_HELP = "job id, job_…"

LOOK_S: Final = 2.0
"""Seconds between two questions whether a chunk has been executed again: runs take minutes."""

Answer = TypeVar("Answer")


def register(verbs: Nouns, voice: argparse.ArgumentParser) -> None:
    """The two commands and their flags."""
    evidence = verbs.add_parser("evidence", parents=[voice], help="why claims were judged so, and until when to appeal")
    evidence.add_argument("job", help=JOB_HELP)
    evidence.add_argument("chunk", nargs="?", type=int, help="of this chunk alone")
    evidence.add_argument(
        "--save", type=Path, metavar="FILE", help="all that was opened, for `shoal verify RECEIPT --units FILE`"
    )
    evidence.set_defaults(run=run_evidence)
    appeal = verbs.add_parser("appeal", parents=[voice], help="contest a decision about a chunk, against a bond")
    appeal.add_argument("job", help=JOB_HELP)
    appeal.add_argument("chunk", type=int, help="number of the chunk")
    appeal.add_argument("--bond", type=int, default=0, metavar="UNITS", help="smallest units (default: the least)")
    appeal.add_argument("--epoch", type=int, default=0, help="of the claim (default: the newest)")
    appeal.add_argument("--replay", action="store_true", help="execute the chunk again first; appeal if it differs")
    appeal.add_argument("--at", type=Path, metavar="DIR", help="with --replay: on this own node, not the gateway's")
    appeal.add_argument("-y", "--yes", action="store_true", help="agree to the bond beforehand")
    appeal.set_defaults(run=run_appeal)
    for verb in (evidence, appeal):
        verb.add_argument("--data", type=Path, metavar="DIR", help="as a provider: ask this node, not a gateway")


def run_evidence(args: argparse.Namespace, out: Output) -> int:
    """Decisions in order, then what is not final; or what was opened, in a file."""
    from msgspec import to_builtins

    from shoal.proof_text import evidence_text

    if args.save is not None:
        return _save(args, out)
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
    claim = _appealed(args, out)
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


def _save(args: argparse.Namespace, out: Output) -> int:
    """The file of opened units, of the whole job."""
    target: Path = args.save
    if args.data is None:
        with client(args) as gateway:
            gateway.units(args.job, target)
    else:
        beside = target.with_name(target.name + ".part")
        with control(args) as node, beside.open("wb") as stream:
            for item in node.iter_stream("job.units", {"job": args.job}):
                data = item["data"]
                assert isinstance(data, bytes)
                stream.write(data)
        beside.replace(target)
    size = target.stat().st_size
    out.data({"path": str(target), "bytes": size}, lambda: f"{target}  {size_text(size)}")
    return exits.OK


def _replayed_at(args: argparse.Namespace, out: Output) -> dict[str, str]:
    """Have an own node execute the chunk; the trace that the appeal stands for, and who opens it."""
    from node.control_client import ControlClient
    from protocol.errors import Refused, Unavailable

    wanted = {"job": args.job, "chunk": args.chunk, "epoch": args.epoch}
    with ControlClient(args.at / "control.sock") as node:
        found = _patiently(lambda: node.call("job.replay", wanted), lambda answer: str(answer["replay"]), out)
    if found["replay"] == "failed":
        raise Unavailable(f"the chunk did not run to its end there: {found['why']}", code="not_replayed")
    if found["replay"] == "agrees":
        raise Refused(
            "your node got what was claimed", code="replay_agrees", fix="Nothing was staked, nothing is lost."
        )
    return {"rival": str(found["rival"]), "speaker": str(found["speaker"])}


def _patiently(ask: Callable[[], Answer], state: Callable[[Answer], str], out: Output) -> Answer:
    """Ask until the chunk has been executed."""
    answer = ask()
    if state(answer) == "running":
        out.say("The chunk is executed again; nothing is staked yet.")
    while state(answer) == "running":
        time.sleep(LOOK_S)
        answer = ask()
    return answer


def _appealed(args: argparse.Namespace, out: Output) -> Claim:
    from msgspec import convert

    from gateway.proof_schemas import Claim

    more: dict[str, str | bool] = {}
    if args.replay:
        more |= _replayed_at(args, out) if args.at else {"replay": True}
    if args.data is None:
        with client(args) as gateway:
            ask = functools.partial(gateway.appeal, args.job, args.chunk, args.bond, args.epoch, **more)
            return _patiently(ask, lambda claim: claim.replay, out)
    wanted = {"job": args.job, "chunk": args.chunk, "bond": args.bond, "epoch": args.epoch, **more}
    with control(args) as node:
        return _patiently(lambda: convert(node.call("job.appeal", wanted), Claim), lambda claim: claim.replay, out)
