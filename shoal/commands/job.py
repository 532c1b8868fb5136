"""`shoal job`: submit work to any gateway, follow it, get the result, check the receipt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shoal import exits
from shoal.commands import job_proof, verify
from shoal.commands.words import Nouns, add_gateway, add_noun, agreed, client, read, require_answer
from shoal.output import Output, size_text, table

if TYPE_CHECKING:
    from gateway.schemas import JobStatus
    from shoal.client import Client, SavedFile

JOB_HELP = "job id, job_…"


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "job", "submit work, follow it, get the result")
    submit = verbs.add_parser("submit", parents=[voice], help="plan, price, [Y/n], run")
    submit.add_argument("file", type=Path, help="job file, YAML")
    submit.add_argument("-y", "--yes", action="store_true", help="agree to the quote beforehand")
    submit.add_argument("--wait", action="store_true", help="follow the log to the end; Ctrl-C detaches")
    submit.add_argument("--key", default="", help="repeat the command with the same key and the job is submitted once")
    submit.add_argument("--to", type=Path, metavar="DIR", help="with --wait: download the result here")
    plan = verbs.add_parser("plan", parents=[voice], help="who could run it, at what price, and who could not")
    plan.add_argument("file", type=Path, help="job file, YAML")
    listed = verbs.add_parser("list", parents=[voice], help="your jobs, newest first")
    listed.add_argument("--limit", type=int, default=20, help="how many (default %(default)s)")
    named = {
        "status": ("everything about one job", run_status),
        "confirm": ("agree to a quote that is still open", run_confirm),
        "logs": ("what the chunks wrote", run_logs),
        "result": ("download the result and verify its hashes", run_result),
        "receipt": ("the signed receipt; --verify checks it offline", run_receipt),
        "cancel": ("stop a job; what nobody earned comes back", run_cancel),
    }
    for name, (text, runner) in named.items():
        verb = verbs.add_parser(name, parents=[voice], help=text)
        verb.add_argument("job", help=JOB_HELP)
        verb.set_defaults(run=runner)
    for verb, runner in ((submit, run_submit), (plan, run_plan), (listed, run_list)):
        verb.set_defaults(run=runner)
    verbs.choices["logs"].add_argument(
        "--follow", "-f", action="store_true", help="until the job ends; resumes by itself"
    )
    verbs.choices["logs"].add_argument("--since", type=int, metavar="N", help="only lines after number N")
    verbs.choices["result"].add_argument(
        "--to", type=Path, default=Path("result"), metavar="DIR", help="default ./%(default)s"
    )
    receipt = verbs.choices["receipt"]
    receipt.add_argument("--to", type=Path, metavar="FILE", help="default ./<job>.receipt")
    receipt.add_argument(
        "--verify", action="store_true", help="check it against the genesis file and compute the payments again"
    )
    verify.add_genesis(receipt)
    receipt.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="check this saved receipt; asks no gateway"
    )
    job_proof.register(verbs, voice)
    for verb in verbs.choices.values():
        add_gateway(verb)


def run_submit(args: argparse.Namespace, out: Output) -> int:
    """Quote, ask, confirm, follow."""
    from msgspec import to_builtins

    from node.clock import Clock
    from shoal.job_text import next_commands, plan_text, quote_text

    require_answer(args)
    with client(args) as gateway:
        submitted = gateway.submit(args.file, args.key)
        job = submitted.job
        if submitted.quote is not None and submitted.state == "quoted":
            out.say(plan_text(submitted.plan or gateway.plan(args.file)))
            out.say(quote_text(submitted.quote, Clock().now()))
            if not agreed("Run it?", args, out):
                out.say(f"Nothing was paid. `shoal job confirm {job}` runs it while the quote holds.")
                out.data(to_builtins(submitted), lambda: job)
                return exits.OK
            status = gateway.confirm(job)
        else:
            status = gateway.status(job)
        if args.wait:
            return _follow(gateway, job, args.to, out)
    out.data(to_builtins(status), lambda: job)
    out.say(next_commands(job))
    return exits.OK


def _follow(gateway: Client, job: str, to: Path | None, out: Output) -> int:
    from msgspec import to_builtins

    from shoal.job_text import next_commands, status_text

    try:
        for line in gateway.logs(job):
            out.say(f"[{line.chunk}] {line.line}")
        status = gateway.wait(job)
    except KeyboardInterrupt:
        out.say(f"\ndetached: the job goes on. Follow it again with `shoal job logs {job} --follow`,")
        out.say(f"end it with `shoal job cancel {job}`.")
        return exits.INTERRUPTED
    saved = gateway.result(job, to) if to is not None and status.state == "settled" else []
    out.data(to_builtins(status), lambda: status_text(status))
    if saved:
        out.say(_saved_text(saved))
    out.say(next_commands(job))
    return _ended(status)


def run_plan(args: argparse.Namespace, out: Output) -> int:
    """Nothing is uploaded, nobody is committed."""
    from msgspec import to_builtins

    from shoal.job_text import plan_text

    with client(args) as gateway:
        plan = gateway.plan(args.file)
    out.data(to_builtins(plan), lambda: plan_text(plan))
    return exits.OK if plan.candidates else exits.REFUSED


def run_list(args: argparse.Namespace, out: Output) -> int:
    """A page of jobs."""
    from msgspec import to_builtins

    from shoal.job_text import jobs_text

    with client(args) as gateway:
        jobs = gateway.list(args.limit)
    out.data({"jobs": to_builtins(jobs)}, lambda: jobs_text(jobs))
    return exits.OK


def run_status(args: argparse.Namespace, out: Output) -> int:
    """Everything about one job."""
    with client(args) as gateway:
        return _show(gateway.status(args.job), out)


def run_confirm(args: argparse.Namespace, out: Output) -> int:
    """Agree to the quote."""
    with client(args) as gateway:
        return _show(gateway.confirm(args.job), out)


def run_cancel(args: argparse.Namespace, out: Output) -> int:
    """Stop it."""
    with client(args) as gateway:
        return _show(gateway.cancel(args.job), out)


def _show(status: JobStatus, out: Output) -> int:
    from msgspec import to_builtins

    from shoal.job_text import status_text

    out.data(to_builtins(status), lambda: status_text(status))
    return exits.OK


def run_logs(args: argparse.Namespace, out: Output) -> int:
    """Lines as they are, or as they come."""
    from msgspec import to_builtins

    with client(args) as gateway:
        for line in gateway.logs(args.job, follow=args.follow, since=args.since):
            out.line(to_builtins(line), f"[{line.chunk}] {line.line}")
        return _ended(gateway.status(args.job)) if args.follow else exits.OK


def run_result(args: argparse.Namespace, out: Output) -> int:
    """Download everything; a file with a wrong hash is not kept."""
    with client(args) as gateway:
        saved = gateway.result(args.job, args.to)
    files = [
        {"path": str(one.path), "digest": one.listed.digest, "size": one.listed.size, "chunk": one.listed.chunk}
        for one in saved
    ]
    out.data({"files": files}, lambda: _saved_text(saved))
    return exits.OK


def run_receipt(args: argparse.Namespace, out: Output) -> int:
    """Save it, and check it where asked."""
    if args.source is not None:
        data = read(args.source)
        path = args.source
    else:
        with client(args) as gateway:
            data = gateway.receipt(args.job)
        path = args.to or Path(f"{args.job}.receipt")
        path.write_bytes(data)
    if not (args.verify or args.source):
        out.data({"path": str(path), "bytes": len(data)}, lambda: f"{path}  {size_text(len(data))}")
        return exits.OK
    return verify.check(data, path, args.genesis, out)


def _saved_text(saved: list[SavedFile]) -> str:
    return table(
        ("file", "size", "blake3"),
        [(one.path, size_text(one.listed.size), one.listed.digest[:16]) for one in saved],
        right=(1,),
    )


def _ended(status: JobStatus) -> int:
    return exits.OK if status.state == "settled" else exits.JOB_FAILED
