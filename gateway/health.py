"""Whether the gateway lives, whether it is ready, what it is, what it counts."""

from __future__ import annotations

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from gateway.routing import Call, json_reply
from gateway.schemas import Health, Readiness, Reason, Version
from protocol.errors import ShoalError

SOFTWARE: Final = "shoal-gateway/0.1.0"
READY_DEADLINE_S: Final = 2.0
"""Probes give up after a few seconds; the node has two."""


async def healthz(call: Call) -> Response:
    """The process runs and its loop turns."""
    return json_reply(Health("ok"), headers={"Cache-Control": "no-store"})


async def readyz(call: Call) -> Response:
    """Whether requests will be answered: the node, the database, not stopping."""
    reasons = []
    if call.gateway.stopping.is_set():
        reasons.append(Reason("stopping", "the gateway is stopping", "Use another gateway."))
    try:
        await call.gateway.node.call("node.status", deadline_s=READY_DEADLINE_S)
    except ShoalError as error:
        reasons.append(Reason(error.code, error.detail, error.fix))
    try:
        await call.gateway.accounts.by_token("")
    except SQLAlchemyError as error:
        reasons.append(
            Reason(
                "database",
                f"the database does not answer: {type(error).__name__}",
                "Look at the gateway's data folder and its disk.",
            )
        )
    return json_reply(Readiness(not reasons, reasons), 503 if reasons else 200, {"Cache-Control": "no-store"})


async def version(call: Call) -> Response:
    """Software of the gateway and, where it answers, of its node."""
    software: str | None = None
    try:
        software = (
            str((await call.gateway.node.call("node.status", deadline_s=READY_DEADLINE_S)).get("software") or "")
            or None
        )
    except ShoalError:
        software = None
    return json_reply(Version(SOFTWARE, "v1", call.gateway.config.network, software))


async def show_metrics(call: Call) -> Response:
    """Prometheus text."""
    call.gateway.metrics.node_connected.set(int(call.gateway.node.is_connected))
    return Response(call.gateway.metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
