"""Starting and stopping a gateway: `shoal gateway run` ends up here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from hypercorn.asyncio import serve
from hypercorn.config import Config

from gateway import database
from gateway.app import build_app
from gateway.config import REQUESTS_PER_MINUTE, GatewayConfig
from gateway.rim import JsonLines, Rim
from gateway.state import Gateway, JobReader, build_gateway
from protocol.errors import LocalError

GRACE_S: Final = 5.0
"""Seconds that open requests get to finish after SIGTERM; streams end at once and their readers come back."""

BACKLOG: Final = 128
"""Connections that wait while the database is brought up to date."""

log = logging.getLogger("gateway")


def main(args: argparse.Namespace, read_job: JobReader | None = None) -> int:
    """Run until SIGTERM or SIGINT. `read_job` turns the text of a job file into a specification."""
    log_json_lines()
    asyncio.run(run(config_from(args), read_job))
    return 0


def config_from(args: argparse.Namespace) -> GatewayConfig:
    """The command line as a configuration; `host`, `port`, `allow_host` and `rate_limit` may be missing."""
    given = vars(args)
    return GatewayConfig(
        socket=Path(str(given["socket"])),
        data=Path(str(given["data"])),
        network=str(given["network_name"]),
        host=str(given.get("host") or "127.0.0.1"),
        port=int(given["port"]) if given.get("port") is not None else 8080,
        names=tuple(str(name) for name in given.get("allow_host") or ()),
        requests_per_minute=int(given.get("rate_limit") or REQUESTS_PER_MINUTE),
    )


async def run(config: GatewayConfig, read_job: JobReader | None = None) -> None:
    """Serve until a signal asks for the end, then finish what is open."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = listen(config)
    database.migrate(config.database)
    gateway = build_gateway(config, read_job)
    await serve_until(gateway, build_app(gateway), stop, listener)


async def serve_until(gateway: Gateway, app: Rim, stop: asyncio.Event, listener: socket.socket) -> None:
    """Serve on a listening socket until `stop` is set, then finish what is open."""
    settings = Config()
    settings.bind = [f"fd://{listener.dup().detach()}"]
    settings.graceful_timeout = GRACE_S
    settings.include_server_header = False
    settings.errorlog = logging.getLogger("gateway.server")

    async def stopped() -> None:
        await stop.wait()
        gateway.stopping.set()

    fields = {"url": url_of(listener), "network": gateway.config.network, "socket": str(gateway.config.socket)}
    log.info("listening", extra={"fields": fields})
    await serve(app, settings, shutdown_trigger=stopped)  # type: ignore[arg-type]
    log.info("stopped")


def listen(config: GatewayConfig) -> socket.socket:
    """A bound socket; port 0 = any free one. Raises LocalError with the fix when the port is taken."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise LocalError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror}",
            code="port_taken",
            fix="Choose another --port, or end the process that has it.",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where people reach the gateway."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else shown}:{port}"


def log_json_lines() -> None:
    """All log records as JSON lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("alembic", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
