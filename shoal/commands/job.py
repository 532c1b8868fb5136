"""`shoal job`: submit work to any gateway, follow it, get the result, check the receipt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import Refused
from shoal import exits
from shoal.commands import job_proof
from shoal.commands.words import Nouns, add_gateway, add_noun, agreed, client, devnet_folder, require_answer
from shoal.output import Output, money, pairs, size_text, table, time_text

if TYPE_CHECKING:
    from gateway.schemas import JobStatus
    from shoal.client import Client, SavedFile
    from shoal.receipt_account import Account

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
    receipt.add_argument(
        "--genesis", type=Path, metavar="FILE", help="genesis file of the network (default: the devnet's)"
    )
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
        data = _read(args.source)
        path = args.source
    else:
        with client(args) as gateway:
            data = gateway.receipt(args.job)
        path = args.to or Path(f"{args.job}.receipt")
        path.write_bytes(data)
    if not (args.verify or args.source):
        out.data({"path": str(path), "bytes": len(data)}, lambda: f"{path}  {size_text(len(data))}")
        return exits.OK
    from protocol import genesis
    from shoal import receipts

    account = receipts.verify(data, genesis.from_json(_read(_genesis(args))))
    out.data(_account(account, path), lambda: _account_text(account, path))
    return exits.OK


def _genesis(args: argparse.Namespace) -> Path:
    if args.genesis is not None:
        return Path(args.genesis)
    from shoal.devnet_state import read_state

    state = read_state(devnet_folder(argparse.Namespace()))
    if state is None:
        raise Refused(
            "the genesis file says whose signatures count, and none is named", code="usage",
            fix="Give --genesis FILE; get it from the network's founder, not from the gateway that you check.",
        )  # fmt: skip
    return Path(state.genesis)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(
            f"{path} cannot be read: {error.strerror}", code="file_missing", fix="Give the path of an existing file."
        ) from error


def _account(account: Account, path: Path) -> dict[str, object]:
    return {
        "path": str(path), "operations": account.operations, "blocks": account.blocks, "cap": account.cap,
        "paid": account.paid, "commission": account.commission, "refunded": account.refunded,
        "slashed": account.slashed, "waiting": account.waiting, "is_closed": account.is_closed,
        "held": account.held, "held_until": account.held_until, "evidence": account.audits, "unknown": account.unknown,
        "movements": account.movements(),
        "handed_over": [
            {"chunk": lease.chunk, "epoch": lease.epoch, "done_ppm": lease.done_ppm, "paid": lease.paid}
            for lease in account.leases.values() if lease.outcome == "handed"
        ],
    }  # fmt: skip


def _account_text(account: Account, path: Path) -> str:
    moved = account.movements()
    rows = [(name, money(amount)) for name, amount in sorted(moved.items(), key=lambda item: item[1])]
    head = pairs(
        [
            ("receipt", path),
            ("verified", f"{account.operations} operations in {account.blocks} certified blocks"),
            ("escrow", "closed" if account.is_closed else "still open: more may follow"),
            *_held(account),
            *_handed(account),
            *(("not shown here", line) for line in account.unknown),
        ]
    )
    return f"{head}\n\n{table(('who', 'credits'), rows, right=(1,))}\nsum {money(sum(moved.values()))}"


def _held(account: Account) -> list[tuple[str, object]]:
    """Lines where the network has a policy: what waits for disputes, and what no receipt of this job can say."""
    if account.books is None:
        return []
    elsewhere = "while pay is held, a provider's proven fraud in another job takes it back: that is in its receipts"
    slashed = [("slashed", f"at least {money(account.slashed)}, half of it or more burnt")] if account.slashed else []
    if not account.held:
        return list(slashed)
    return [*slashed, ("held", f"{money(account.held)} until {time_text(account.held_until)} UTC; {elsewhere}")]


def _handed(account: Account) -> list[tuple[str, object]]:
    """A line when chunks were handed over: how many leases, and what still waits for the end of its chunk."""
    handed = [lease for lease in account.leases.values() if lease.outcome == "handed"]
    if not handed:
        return []
    paid = sum(lease.paid + lease.commission for lease in handed)
    return [("handed over", f"{len(handed)} leases: {money(paid)} paid, {money(account.waiting)} waiting")]


def _saved_text(saved: list[SavedFile]) -> str:
    return table(
        ("file", "size", "blake3"),
        [(one.path, size_text(one.listed.size), one.listed.digest[:16]) for one in saved],
        right=(1,),
    )


def _ended(status: JobStatus) -> int:
    return exits.OK if status.state == "settled" else exits.JOB_FAILED
