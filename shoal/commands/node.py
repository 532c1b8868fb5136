"""`shoal node`: run this machine's peer, look at it, set its price, take it out of service."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from protocol.errors import Refused, ShoalError
from shoal import exits
from shoal.care_text import care_rows, protected_text
from shoal.commands import reclaim
from shoal.commands.words import Nouns, add_data, add_noun, control
from shoal.imports import lasting
from shoal.output import Output, money, pairs, span_text, table, time_text

if TYPE_CHECKING:
    from node.config import Loaded

DATA_HELP = "data directory (SHOAL_DATA; default: node/ under Shoal's data directory)"
LIVE_S: Final = 3.0
"""Seconds that the doctor waits for the node that runs here: it must not hang because the node does."""
Row = dict[str, object]


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "node", "run this machine's peer, look at it, set its price")
    _add_run(verbs, voice)
    doctor = verbs.add_parser("doctor", parents=[voice], help="what this machine can offer, and what is missing")
    add_settings(doctor)
    doctor.set_defaults(run=run_doctor)
    config = verbs.add_parser("config", parents=[voice], help="the settings in force, and where each came from")
    add_settings(config)
    config.set_defaults(run=run_config)
    for name, text, runner in (
        ("status", "what the running node is doing", run_status),
        ("earnings", "every payment and slash, line by line", run_earnings),
        ("stop", "end the running node cleanly", run_stop),
    ):
        verb = verbs.add_parser(name, parents=[voice], help=text)
        add_data(verb, DATA_HELP)
        verb.set_defaults(run=runner)
    price = verbs.add_parser("price", parents=[voice], help="show or set the price of an hour")
    price.add_argument("credits", nargs="?", help="credits per hour and slot, like 0.5")
    add_data(price, DATA_HELP)
    price.set_defaults(run=run_price)
    drain = verbs.add_parser("drain", parents=[voice], help="take no new work; the machine is yours again")
    drain.add_argument("--now", action="store_true", help="give running chunks back instead of finishing them")
    drain.add_argument("--resume", action="store_true", help="take work again")
    add_data(drain, DATA_HELP)
    drain.set_defaults(run=run_drain)
    reclaim.add(verbs, voice, DATA_HELP)


def _add_run(verbs: Nouns, voice: argparse.ArgumentParser) -> None:
    run = verbs.add_parser("run", parents=[voice], help="run a peer until Ctrl-C")
    add_settings(run)
    run.set_defaults(run=run_node)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Flags for every setting; what is not said comes from the environment, the file, or the default."""
    add_data(parser, DATA_HELP)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (default: config.toml in --data)")
    for flag, name, text in (
        ("--network", "network", "name of the network"),
        ("--name", "name", "name of this machine, for logs"),
        ("--roles", "roles", "of provider,validator,steward"),
        ("--genesis", "genesis", "genesis file of the network (default: genesis.json in --data)"),
        ("--price", "price_per_hour", "credits per hour and slot, like 0.5"),
        ("--slots", "slots", "chunks at the same time"),
        ("--serves", "serves", "renters (peer ids) whose jobs may run without a sandbox: your own only"),
        ("--trusted-nodes", "trusted_nodes", "your own other nodes (peer ids), whose process images are restored here"),
        ("--executors", "executors", "tiers that may be used, of docker,runc,bwrap,wasm,child"),
        ("--runtimes", "runtimes", "name=/path/to/python,…"),
        ("--blob-bytes-max", "blob_bytes_max", "disk for files"),
        ("--port-mapping", "port_mapping", "on or off: ask the router for an open port"),
        ("--relay", "relay", "on or off: carry connections of peers behind routers, within a budget"),
        ("--mdns", "mdns", "on or off: find peers on the local network"),
        ("--data-port", "data_port", "TCP port for bulk data; 0: any"),
        ("--up-mbps", "up_mbps", "cap on what bulk data sends, megabits per second; 0: none"),
        ("--down-mbps", "down_mbps", "cap on what bulk data receives, megabits per second; 0: none"),
        ("--muxer", "muxer", "own or stock: whose stream multiplexer carries connections"),
        ("--hours", "hours", "local times to work in, like 22:00-06:00; empty: always"),
        ("--owner-command", "owner_command", "a program that ends with 0 while you need the machine yourself"),
        ("--region", "region", "where this machine stands, like eu-west; for renters who ask"),
        ("--drand-url", "drand_url", "a drand relay whose randomness a validator mixes into beacons; empty: none"),
        ("--log-level", "log_level", "debug, info, warning or error"),
    ):
        parser.add_argument(flag, dest=name, metavar="VALUE", help=text)
    parser.add_argument("--listen", action="append", metavar="ADDRESS", help="multiaddr to listen on; may repeat")
    parser.add_argument(
        "--announce", action="append", metavar="ADDRESS", help="tell others this address too; may repeat"
    )
    parser.add_argument("--bootstrap", action="append", metavar="ADDRESS", help="peer to start from; may repeat")


def loaded(args: argparse.Namespace) -> Loaded:
    """The settings of the command line, the environment and the file together."""
    from node.config import FIELDS, load

    return load({name: value for name, value in vars(args).items() if name in FIELDS}, os.environ, args.config)


def run_node(args: argparse.Namespace, out: Output) -> int:
    """Run the node in this process."""
    config = loaded(args).config
    if not config.genesis_file.is_file():
        raise Refused(
            f"there is no genesis file {config.genesis_file}", code="bad_genesis",
            fix="Get it from the network that you join (--genesis FILE); `shoal devnet up` makes your own.",
        )  # fmt: skip
    with lasting():
        from node import run

    return run.main(config)


def run_doctor(args: argparse.Namespace, out: Output) -> int:
    """Look at the machine; exit 3 when something stands in the way of being a node."""
    import trio

    from node.clock import Clock
    from node.doctor import Patient, diagnose

    config, clock = loaded(args).config, Clock()
    ports = tuple(int(word) for one in config.listen for word in one.split("/")[4:5] if word.isdecimal())
    out.say("looking at this machine and its network …")
    patient = Patient(
        config.data, clock.now(), clock.drift(), ports, config.runtimes,
        listen=config.listen, bootstraps=config.bootstrap, live=_live_network(config.socket),
        keep_bytes_max=config.keep_bytes_max, trusted_nodes=len(config.trusted_nodes),
        attestation=config.attestation,
    )  # fmt: skip
    report = trio.run(diagnose, patient)
    rows = [(check["status"], check["name"], check["detail"], check["fix"]) for check in report["checks"]]
    closing = f"fix first: {report['fix_first']}" if report["fix_first"] else "nothing to fix"
    out.data(report, lambda: f"{table(('', 'check', 'found', 'fix'), rows)}\n\n{closing}")
    return exits.OK if report["healthy"] else exits.REFUSED


def _live_network(socket: Path) -> Row | None:
    """What a running node says of its network, empty when it is too old to say; None when none runs."""
    from node.control_client import ControlClient

    try:
        node = ControlClient(socket, LIVE_S)
    except ShoalError:
        return None
    with node:
        try:
            return node.call("network.status")
        except (ShoalError, OSError):
            return {}


def run_config(args: argparse.Namespace, out: Output) -> int:
    """Every setting, its value, and its origin."""
    from msgspec import to_builtins

    found = loaded(args)
    values = cast("Row", to_builtins(found.config, enc_hook=str))
    rows = [(name, _setting(name, values[name]), found.origins[name]) for name in values]
    settings = {name: {"value": values[name], "origin": found.origins[name]} for name in values}
    out.data(settings, lambda: table(("setting", "value", "origin"), rows))
    return exits.OK


def run_status(args: argparse.Namespace, out: Output) -> int:
    """What the node says of itself."""
    with control(args) as node:
        status = node.call("node.status")
    out.data(status, lambda: _status_text(status))
    return exits.OK


def run_price(args: argparse.Namespace, out: Output) -> int:
    """Ask or set; a new price holds for new leases."""
    from protocol.credits import credits_from_text

    params: Row = {} if args.credits is None else {"per_hour": credits_from_text(args.credits)}
    with control(args) as node:
        answer = node.call("node.price", params)
    out.data(answer, lambda: f"{money(answer['price_per_hour'])} credits per hour and slot")
    return exits.OK


def run_drain(args: argparse.Namespace, out: Output) -> int:
    """Out of service, or back."""
    with control(args) as node:
        answer = node.call("node.drain", {"finish_running": not args.now, "resume": args.resume})
    state = "draining: no new work" if answer["is_draining"] else "taking work"
    out.data(answer, lambda: f"{state}; {answer['running']} chunks running")
    if answer["is_draining"]:
        out.say("Take work again with `shoal node drain --resume`.")
    return exits.OK


def run_earnings(args: argparse.Namespace, out: Output) -> int:
    """Line by line, then the sums."""
    with control(args) as node:
        answer = node.call("node.earnings")
    from shoal.earnings_text import earnings_text

    rows = [
        (time_text(line["time"]), str(line["job"])[:12], line["chunk"], money(line["price"]), money(line["commission"]),
         money(line["paid"]), money(line["slashed"]), line["outcome"], line["code"])
        for line in _rows(answer, "lines")
    ]  # fmt: skip
    heads = ("time (UTC)", "job", "chunk", "price", "commission", "paid", "slashed", "outcome", "code")

    def text() -> str:
        sums = f"earned {money(answer['total'])} credits, slashed {money(answer['slashed'])}"
        shares = _shares_text(_rows(answer, "shares"))
        lines = f"{table(heads, rows, right=(2, 3, 4, 5, 6))}\n{shares}{sums}"
        return "\n".join(part for part in (lines, earnings_text(answer)) if part).lstrip()

    out.data(answer, text)
    return exits.OK


def _shares_text(shares: list[Row]) -> str:
    """Chunks that were handed over: what of them is paid, and what waits for their end."""
    if not shares:
        return ""
    rows = [
        (str(share["job"])[:12], share["chunk"], f"{int(str(share['done_ppm'])) / 10_000:.1f} %",
         money(share["amount"]), money(share["commission"]), share["state"])
        for share in shares
    ]  # fmt: skip
    heads = ("handed over: job", "chunk", "at", "share", "commission", "state")
    return f"\n{table(heads, rows, right=(1, 2, 3, 4))}\n"


def run_stop(args: argparse.Namespace, out: Output) -> int:
    """Ask the node to end."""
    with control(args) as node:
        node.call("node.stop")
    out.data({"stopping": True}, lambda: "stopping")
    return exits.OK


def _rows(answer: Row, name: str) -> list[Row]:
    rows = answer.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _setting(name: str, value: object) -> str:
    if name == "price_per_hour":
        return f"{money(value)} credits"
    return (
        ", ".join(str(item) for item in value)
        if isinstance(value, list | tuple)
        else str(value if value is not None else "–")
    )


def _status_text(status: Row) -> str:
    running = [(row["job"], row["chunk"], row["epoch"], row["phase"]) for row in _rows(status, "running")]
    drifting = [(row["provider"], row["profile"], row["units"], row["detail"]) for row in _rows(status, "drifting")]
    ledger = status["ledger"] if isinstance(status["ledger"], dict) else {}
    now, started = status["now"], status["started"]
    up = span_text(now - started) if isinstance(now, int) and isinstance(started, int) else "–"
    top = pairs(
        [
            ("peer", status["peer"]),
            ("network", status["network"]),
            ("roles", ", ".join(str(role) for role in cast("list[object]", status["roles"]))),
            ("up", up),
            ("addresses", ", ".join(str(one) for one in cast("list[object]", status["addresses"]))),
            ("connected", f"{len(cast('list[object]', status['connected']))} peers"),
            (
                "slots",
                f"{status['slots_free']} of {status['slots']} free" + (" (draining)" if status["is_draining"] else ""),
            ),
            ("price", f"{money(status['price_per_hour'])} credits per hour and slot"),
            ("executors", ", ".join(str(one) for one in cast("list[object]", status["executors"])) or "none"),
            ("ledger", f"height {ledger.get('height', '–')}"),
            ("credits", f"{money(status['available'])} free, {money(status['stake'])} staked"),
            *care_rows(status),
        ]
    )
    parts = [top, table(("job", "chunk", "epoch", "phase"), running), protected_text(status)]
    if drifting:
        parts.append(table(("drifting provider", "profile", "units", "errors"), drifting))
    if unshown := _rows(status, "unshown"):
        heads = ("peer", "offers", "benchmark", "Gop/s claimed", "shown")
        figures = [(row["claimed"], row["shown"]) for row in unshown]
        said = [tuple(f"{value / 1_000:.0f}" if isinstance(value, int) else "–" for value in pair) for pair in figures]
        parts.append(
            table(
                heads, [(row["peer"], row["kind"], row["code"], *pair) for row, pair in zip(unshown, said, strict=True)]
            )
        )
    return "\n\n".join(part for part in parts if part)
