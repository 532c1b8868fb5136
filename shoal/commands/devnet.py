"""`shoal devnet`: a whole network of real processes on this machine."""

from __future__ import annotations

import argparse

from protocol.errors import Refused
from shoal import exits
from shoal.commands.words import Nouns, add_data, add_noun, agreed, devnet_folder
from shoal.output import Output, money, short_peer, table

FOLDER_HELP = "folder of the network (default: devnet/ under Shoal's data directory)"


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "devnet", "a whole network on this machine: up, down, status")
    up = verbs.add_parser("up", parents=[voice], help="start it; what is in the folder goes on")
    up.add_argument("--providers", type=int, default=4, metavar="N", help="how many providers (default %(default)s)")
    up.add_argument("--window", metavar="TIME", help="time to appeal in, 1s to 30d, of a new network (default 2s)")
    up.add_argument("--canaries", type=int, default=0, metavar="N", help="known jobs the validator issues per hour")
    up.add_argument("--fresh", action="store_true", help="delete what is in the folder first")
    down = verbs.add_parser("down", parents=[voice], help="end every process of it")
    down.add_argument("--remove", action="store_true", help="delete the folder too, with the ledger and all results")
    down.add_argument("-y", "--yes", action="store_true", help="with --remove: do not ask")
    status = verbs.add_parser("status", parents=[voice], help="what runs, and where")
    for verb, runner in ((up, run_up), (down, run_down), (status, run_status)):
        add_data(verb, FOLDER_HELP)
        verb.set_defaults(run=runner)


def run_up(args: argparse.Namespace, out: Output) -> int:
    """Start everything, return when jobs can be submitted."""
    from protocol.units import DAY, SECOND
    from shoal.devnet import Devnet, remove
    from shoal.jobfile_schema import span_of

    if not 1 <= args.providers <= 32:
        raise Refused(f"{args.providers} providers", code="usage", fix="Choose 1 to 32.")
    if not 0 <= args.canaries <= 3600:
        raise Refused(f"{args.canaries} canaries per hour", code="usage", fix="Choose 0 to 3600.")
    folder = devnet_folder(args)
    window = span_of(args.window or "2s")
    if window is None or not SECOND <= window <= 30 * DAY:
        raise Refused(f"--window {args.window} is no time to appeal in", code="usage", fix="Choose 1s to 30d.")
    if args.fresh:
        remove(folder)
    network = Devnet(folder, out.say)
    state = network.up(args.providers, window=window, canaries=args.canaries)
    network.release()
    page = f"{state.gateway.url}/"
    out.data({"gateway": state.gateway.url, "token": state.gateway.token, "folder": str(folder)}, lambda: page)
    out.say(f"token    {state.gateway.token}")
    out.say("try      shoal job submit examples/script/job.yml --wait")
    out.say("end      shoal devnet down" + (f" --data {folder}" if args.data else ""))
    return exits.OK


def run_down(args: argparse.Namespace, out: Output) -> int:
    """End everything; fine where nothing runs."""
    from shoal.devnet import Devnet, remove

    folder = devnet_folder(args)
    if args.remove and not agreed(f"End the network in {folder} and delete everything in it?", args, out):
        return exits.OK
    killed = Devnet(folder, out.say).down()
    if args.remove:
        remove(folder)
    text = f"down: {folder}" + (f"; {len(killed)} processes had to be killed" if killed else "")
    out.data({"down": True, "killed": killed}, lambda: text)
    return exits.OK


def run_status(args: argparse.Namespace, out: Output) -> int:
    """One line per process. Exit 4 when nothing runs."""
    from shoal.devnet import node_lines
    from shoal.devnet_state import read_state

    folder = devnet_folder(args)
    state = read_state(folder)
    if state is None:
        out.data({"running": False, "folder": str(folder)}, lambda: f"no network runs in {folder}")
        out.say("Start one with `shoal devnet up`.")
        return exits.UNAVAILABLE
    lines = node_lines(state)
    rows = [
        (one["name"], one["state"], one["pid"], short_peer(one["peer"]), *_figures(one["status"]))
        for one in lines
    ]  # fmt: skip
    heads = ("node", "state", "pid", "peer", "peers", "slots", "height", "free", "stake")
    value = {"running": True, "gateway": state.gateway.url, "token": state.gateway.token, "nodes": lines}
    out.data(value, lambda: f"gateway {state.gateway.url}\n\n{table(heads, rows, right=(2, 4, 5, 6, 7, 8))}")
    return exits.OK


def _figures(status: object) -> tuple[object, ...]:
    if not isinstance(status, dict) or not status:
        return ("–",) * 5
    ledger = status["ledger"]
    slots = f"{status['slots_free']}/{status['slots']}"
    return len(status["connected"]), slots, ledger["height"], money(status["available"]), money(status["stake"])
