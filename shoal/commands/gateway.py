"""`shoal gateway`: HTTP in front of a node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import Refused
from shoal import exits
from shoal.commands.words import Nouns, add_data, add_noun
from shoal.imports import lasting
from shoal.output import Output

if TYPE_CHECKING:
    from protocol.jobspec import JobSpec

LOCAL_KEYS = ("files", "wasm", "repo")
"""Keys of a job file that name files on the reader's disk. Over HTTP that disk would be the gateway's."""


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    verbs = add_noun(nouns, "gateway", "HTTP API and live page in front of a node")
    run = verbs.add_parser("run", parents=[voice], help="serve until Ctrl-C")
    add_data(run, "where accounts and tokens are kept (default: gateway/ under Shoal's data directory)")
    run.add_argument("--node", type=Path, metavar="DIR", help="data directory of the node to speak for")
    run.add_argument("--socket", type=Path, help="its control socket, if it lies elsewhere")
    run.add_argument("--network-name", help="shown on the page (default: the node's)")
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    run.add_argument("--port", type=int, default=8080, help="0 = any free one (default %(default)s)")
    run.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="also answer under this name")
    run.add_argument("--rate-limit", type=int, metavar="N", help="requests per minute and token (default 100)")
    run.set_defaults(run=run_serve)
    token = verbs.add_parser("token", parents=[voice], help="make a bearer token; it is shown this once")
    add_data(token, "data directory of the gateway")
    token.add_argument("--name", required=True, help="account that it belongs to, made where it is new")
    token.add_argument("--scope", action="append", metavar="SCOPE", help="scope or role (default: renter)")
    token.set_defaults(run=run_token)


def run_serve(args: argparse.Namespace, out: Output) -> int:
    """Run the gateway in this process."""
    with lasting():
        from gateway import serve

    args.data = gateway_folder(args)
    args.socket = _socket(args)
    if not args.network_name:
        args.network_name = _network(args.socket)
    return serve.main(args, read_job=read_job)


def run_token(args: argparse.Namespace, out: Output) -> int:
    """Print a new token."""
    token = make_token(gateway_folder(args), args.name, args.scope or ["renter"])
    out.data({"name": args.name, "token": token}, lambda: token)
    out.say(f"Use it as SHOAL_TOKEN, or as `Authorization: Bearer …`. Account: {args.name}. It is not shown again.")
    return exits.OK


def make_token(data: Path, name: str, scopes: list[str]) -> str:
    """A token in the gateway's database, which is made where there is none."""
    from gateway import accounts, database
    from gateway.config import GatewayConfig

    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = GatewayConfig(socket=data, data=data, network="").database
    database.migrate(file)
    return accounts.create_token(file, name, scopes)


def gateway_folder(args: argparse.Namespace) -> Path:
    """The gateway's data directory."""
    import os

    from node.config import default_home

    return Path(args.data).expanduser().absolute() if args.data else default_home(os.environ) / "gateway"


def read_job(text: str) -> JobSpec:
    """A job file that came over HTTP. `Refused` where it names local files: that disk would be the gateway's."""
    from protocol import yaml_nodes
    from shoal import jobfile

    tree = yaml_nodes.parse(text, "job.yml")
    keys = [key.text for key, _ in tree.values] if isinstance(tree, yaml_nodes.Pairs) else []
    named = [key for key in LOCAL_KEYS if key in keys]
    if named:
        raise Refused(
            f"`{named[0]}` names local files, which do not travel inside a job file", code="bad_job_file",
            fix="Upload them with POST /v1/blobs and send the specification as JSON, or use `shoal job submit`.",
        )  # fmt: skip
    return jobfile.read(text, Path("/nonexistent"), {}).spec


def _socket(args: argparse.Namespace) -> Path:
    import os

    from node.config import default_home

    if args.socket:
        return Path(args.socket).expanduser().absolute()
    node = Path(args.node).expanduser().absolute() if args.node else default_home(os.environ) / "node"
    return node / "control.sock"


def _network(socket: Path) -> str:
    from node.control_client import ControlClient

    with ControlClient(socket) as node:
        return str(node.call("node.status")["network"])
