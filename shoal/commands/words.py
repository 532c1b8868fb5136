"""What all commands share on the command line: where data lies, which gateway to ask, how to answer a question."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import Refused, Unavailable
from shoal.output import Output

if TYPE_CHECKING:
    from node.control_client import ControlClient
    from shoal.client import Client

    Nouns = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Nouns = object


def add_noun(nouns: Nouns, name: str, text: str) -> Nouns:
    """A noun; its verbs are added to what this returns."""
    return nouns.add_parser(name, help=text, description=text).add_subparsers(
        dest="verb", metavar="<verb>", required=True
    )


def add_data(parser: argparse.ArgumentParser, text: str) -> None:
    """--data DIR."""
    parser.add_argument("--data", type=Path, metavar="DIR", help=text)


def add_gateway(parser: argparse.ArgumentParser) -> None:
    """--gateway and --token."""
    parser.add_argument("--gateway", metavar="URL", help="gateway to ask (SHOAL_GATEWAY; else a running devnet's)")
    parser.add_argument("--token", help="bearer token (SHOAL_TOKEN; a flag is visible to other users of this machine)")


def node_folder(args: argparse.Namespace) -> Path:
    """The data directory that a `shoal node …` command is about: --data, SHOAL_DATA, or the default."""
    from node.config import default_home

    said = args.data or os.environ.get("SHOAL_DATA")
    return Path(said).expanduser().absolute() if said else default_home(os.environ) / "node"


def devnet_folder(args: argparse.Namespace) -> Path:
    """Where the local network lives."""
    from node.config import default_home

    said = getattr(args, "data", None)
    return Path(said).expanduser().absolute() if said else default_home(os.environ) / "devnet"


def control(args: argparse.Namespace) -> ControlClient:
    """A line to the running node of --data."""
    from node.control_client import ControlClient

    return ControlClient(node_folder(args) / "control.sock")


def client(args: argparse.Namespace) -> Client:
    """The gateway that --gateway, SHOAL_GATEWAY or a running devnet names, with its token."""
    from shoal.client import Client

    url = args.gateway or os.environ.get("SHOAL_GATEWAY")
    token = args.token or os.environ.get("SHOAL_TOKEN")
    if not url or not token:
        from shoal.devnet_state import is_running, stored_state

        state = stored_state(devnet_folder(argparse.Namespace()))
        if state is not None and url in (None, "", state.gateway.url):
            if not is_running(state.gateway.pid, state.gateway.data):
                raise Unavailable(
                    f"the gateway of the local network, {state.gateway.url}, does not run",
                    code="gateway_down",
                    fix="`shoal devnet up` starts what is missing; jobs and credits are kept.",
                )
            url, token = state.gateway.url, token or state.gateway.token
    if not url:
        raise Refused(
            "no gateway is named, and no local network runs", code="no_gateway",
            fix="Give --gateway and --token (or SHOAL_GATEWAY and SHOAL_TOKEN), or start one with `shoal devnet up`.",
        )  # fmt: skip
    return Client(url, token or "")


def read(path: Path) -> bytes:
    """The bytes of a file that is named on the command line."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(
            f"{path} cannot be read: {error.strerror}", code="file_missing", fix="Give the path of an existing file."
        ) from error


def require_answer(args: argparse.Namespace) -> None:
    """Refuse to begin what will need an answer where nobody can give one."""
    if not args.yes and not sys.stdin.isatty():
        raise Refused("nobody can answer here", code="usage", fix="Add -y to agree beforehand.")


def agreed(question: str, args: argparse.Namespace, out: Output) -> bool:
    """Ask [Y/n]. True with -y. Without a terminal nobody can answer, so -y is needed there."""
    require_answer(args)
    if args.yes:
        return True
    sys.stderr.write(f"{question} [Y/n] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return answer != "" and answer.strip().lower() in ("", "y", "yes")
