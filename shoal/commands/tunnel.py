"""`shoal port-forward` and `shoal ssh`: into a running chunk, whatever routers lie between."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocol.errors import Refused, Unavailable
from shoal import exits
from shoal.commands.words import Nouns, add_data, add_gateway, client, control
from shoal.output import Output

if TYPE_CHECKING:
    from shoal.forwarding import Forward, Forwarder
    from shoal.tunnel_line import Caller, Target

TARGET_HELP: Final = "job id, job_…; with /CHUNK where several chunks run"
DATA_HELP: Final = "ask the own node of this data directory instead of a gateway"
SSH_PORT: Final = 22
ALIVE_S: Final = 60
"""Seconds between ssh's own signs of life: an idle tunnel is closed after 10 minutes."""


def register(nouns: Nouns, voice: argparse.ArgumentParser) -> None:
    """The commands and their flags."""
    text = "local ports that lead into a running chunk"
    forward = nouns.add_parser("port-forward", parents=[voice], help=text, description=text)
    forward.add_argument("target", metavar="JOB[/CHUNK]", help=TARGET_HELP)
    forward.add_argument("ports", nargs="+", metavar="[LOCAL:]PORT", help="8888, or 8080:8888; 0:8888 = any free one")
    forward.add_argument("--address", default="127.0.0.1", help="local address to listen on (default %(default)s)")
    forward.add_argument("--stdio", action="store_true", help="one connection over stdin and stdout: a ProxyCommand")
    forward.set_defaults(run=run_forward)
    text = "ssh into a running chunk, or a shell beside it"
    ssh = nouns.add_parser("ssh", parents=[voice], help=text, description=text)
    ssh.add_argument("target", metavar="JOB[/CHUNK]", help=TARGET_HELP)
    ssh.add_argument("-p", "--port", type=int, default=SSH_PORT, help="the chunk's ssh port (default %(default)s)")
    ssh.add_argument("-l", "--login", default="job", help="user name for ssh (default %(default)s)")
    ssh.add_argument("-t", "--terminal", action="store_true", help="a terminal for a command, too")
    ssh.add_argument("--shell", action="store_true", help="the node's own shell, even where ssh is served")
    ssh.add_argument("command", nargs="*", metavar="-- COMMAND", help="run this instead of a shell")
    ssh.set_defaults(run=run_ssh)
    for verb in (forward, ssh):
        add_gateway(verb)
        add_data(verb, DATA_HELP)


def run_forward(args: argparse.Namespace, out: Output) -> int:
    """Until Ctrl-C; with --stdio until the connection ends."""
    import trio

    from shoal.forwarding import Forwarder, Standard, forward_of

    forwards = tuple(forward_of(text) for text in args.ports)
    if args.stdio and len(forwards) != 1:
        raise Refused("--stdio carries one connection", code="usage", fix="Name one port.")
    caller, target = _reached(args)
    forwarder = Forwarder(caller, target, out.say)
    if args.stdio:
        trio.run(forwarder.once, Standard(), forwards[0].remote)
        return exits.OK
    return trio.run(_serve, forwarder, args.address, forwards, target, out)


async def _serve(forwarder: Forwarder, address: str, forwards: tuple[Forward, ...], target: Target, out: Output) -> int:
    import signal

    import trio

    def ready(ports: list[int]) -> None:
        for local, forward in zip(ports, forwards, strict=True):
            line = {
                "address": address,
                "local": local,
                "job": target.job,
                "chunk": target.chunk,
                "port": forward.remote,
            }
            out.line(line, f"{address}:{local} -> {target.job}/{target.chunk} port {forward.remote}")
        out.say("Ctrl-C ends it.")

    async def serve() -> None:
        for port in dict.fromkeys(forward.remote for forward in forwards):
            await forwarder.probe(port)
        await forwarder.serve(address, forwards, ready)

    from shoal.tunnel_line import only_error

    received = 0
    try:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                nursery.start_soon(serve)
                async for number in signals:
                    received = number
                    nursery.cancel_scope.cancel()
                    break
    except BaseExceptionGroup as group:
        raise only_error(group) from None
    return exits.INTERRUPTED if received == signal.SIGINT else exits.OK


def run_ssh(args: argparse.Namespace, out: Output) -> int:
    """The system's ssh where the chunk serves it; otherwise a shell that the provider's node starts."""
    import trio

    from shoal.forwarding import Forwarder
    from shoal.shell_session import run_shell

    caller, target = _reached(args)
    if not args.shell:
        try:
            trio.run(Forwarder(caller, target, out.say).probe, args.port)
        except Refused as error:
            if error.code != "port_not_declared":
                raise
        else:
            _become_ssh(args, target)
    command = shlex.join(args.command) if len(args.command) > 1 else "".join(args.command)
    has_terminal = args.terminal or (not command and sys.stdin.isatty())
    from dataclasses import replace

    shell = replace(target, port=0, command=command, has_terminal=has_terminal)
    return trio.run(run_shell, caller, shell)


def _become_ssh(args: argparse.Namespace, target: Target) -> None:
    """Replace this process by ssh, which asks us for its connection. The token travels in the environment."""
    import shutil

    from node.config import default_home
    from shoal.processes import shoal_command

    program = shutil.which("ssh")
    if program is None:
        raise Unavailable(
            "there is no `ssh` on this machine", code="no_ssh",
            fix="Install an OpenSSH client, or use `shoal ssh --shell` where the job file says `shell: true`.",
        )  # fmt: skip
    where = f"{target.job}/{target.chunk}"
    proxy = shoal_command("port-forward", "--quiet", "--stdio")
    if args.data is not None:
        proxy += ["--data", str(args.data.expanduser().absolute())]
    if args.gateway:
        os.environ["SHOAL_GATEWAY"] = args.gateway
    if args.token:
        os.environ["SHOAL_TOKEN"] = args.token
    known = default_home(os.environ) / "known_hosts"
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {
        "ProxyCommand": shlex.join([*proxy, where, str(args.port)]).replace("%", "%%"),
        "HostKeyAlias": f"{target.job}.{target.chunk}",
        "UserKnownHostsFile": f'"{known}"',
        "StrictHostKeyChecking": "accept-new",
        "ServerAliveInterval": str(ALIVE_S),
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    words += ["-t"] if args.terminal else []
    words += ["-q"] if args.quiet else []
    os.execv(program, ["ssh", *words, "-l", args.login, "--", target.job, *args.command])


def _reached(args: argparse.Namespace) -> tuple[Caller, Target]:
    """Whom to ask, and the chunk that is meant."""
    from shoal.tunnel_line import GatewayCaller, NodeCaller, Target

    job, _, number = args.target.partition("/")
    if args.data is not None:
        with control(args) as node:
            chunks = node.call("job.status", {"job": job})["chunks"]
        path = Path(args.data).expanduser().absolute() / "control.sock"
        assert isinstance(chunks, list)
        states = {int(chunk["index"]): str(chunk["state"]) for chunk in chunks}
        return NodeCaller(path), Target(job, _chunk(job, number, states))
    with client(args) as gateway:
        states = {chunk.index: chunk.state for chunk in gateway.status(job).chunks}
        return GatewayCaller(gateway.url, gateway.token), Target(job, _chunk(job, number, states))


def _chunk(job: str, number: str, states: dict[int, str]) -> int:
    """The chunk that is named, or the only one there is, or the only one that runs."""
    if number:
        if not (number.isascii() and number.isdecimal() and int(number) in states):
            fix = f"It has the chunks {', '.join(map(str, list(states)[:20]))}."
            raise Refused(f"{job} has no chunk {number[:20]!r}", code="no_such_chunk", fix=fix)
        return int(number)
    running = [index for index, state in states.items() if state == "running"]
    if len(states) == 1 or len(running) == 1:
        return running[0] if running else next(iter(states))
    fix = f"Name one: {', '.join(f'{job}/{index}' for index in (running or list(states))[:8])}."
    raise Refused(f"{job} has {len(states)} chunks, {len(running)} of them run", code="chunk_unclear", fix=fix)
