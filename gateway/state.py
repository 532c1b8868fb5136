"""The parts of a running gateway, wired once and passed to every handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.accounts import Accounts
from gateway.config import FAILURES_PER_MINUTE, GatewayConfig
from gateway.database import open_engine
from gateway.figures import FILTERS
from gateway.idempotency import Requests
from gateway.limits import Limiter
from gateway.live import Live
from gateway.metrics import Metrics
from gateway.node_client import NodeClient
from gateway.ownership import Owners
from protocol.jobspec import JobSpec

JobReader = Callable[[str], JobSpec]
"""YAML text -> specification. Given from outside: the job file's grammar belongs to the layer above."""


@dataclass(slots=True)
class Gateway:
    """Everything that a handler may use."""

    config: GatewayConfig
    node: NodeClient
    accounts: Accounts
    owners: Owners
    requests: Requests
    live: Live
    templates: Environment
    read_job: JobReader | None
    metrics: Metrics
    stopping: asyncio.Event
    by_token: Limiter
    by_address: Limiter
    failures: Limiter = field(default_factory=lambda: Limiter(FAILURES_PER_MINUTE))
    close: Callable[[], object] | None = None


def build_gateway(config: GatewayConfig, read_job: JobReader | None = None) -> Gateway:
    """Wire the parts; nothing runs before the application's lifespan starts. The database has to be migrated."""
    engine = open_engine(config.database)
    node = NodeClient(config.socket, config.node_deadline_s, config.node_grace_s)
    stopping = asyncio.Event()
    return Gateway(
        config=config,
        node=node,
        accounts=Accounts(engine),
        owners=Owners(engine, node),
        requests=Requests(engine),
        live=Live(node, stopping),
        templates=_templates(),
        read_job=read_job,
        metrics=Metrics(),
        stopping=stopping,
        by_token=Limiter(config.requests_per_minute),
        by_address=Limiter(config.anonymous_per_minute),
        close=engine.dispose,
    )


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.tests["contains"] = lambda listed, item: item in listed
    return environment
