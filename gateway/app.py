"""The ASGI application: routes made from the list of operations, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from gateway import openapi
from gateway.door import endpoint, problem_response
from gateway.health import SOFTWARE
from gateway.operations import OPERATIONS
from gateway.problems import HttpProblem
from gateway.rim import Rim
from gateway.state import Gateway
from gateway.tunnels import tunnel_routes
from protocol.errors import LocalError

OnError = Callable[[Request, Exception], Awaitable[Response]]

STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}
"""What Starlette's router itself refuses with."""


def build_app(gateway: Gateway) -> Rim:
    """The application of one gateway, within its rim."""
    app = Starlette(
        routes=[*routes(gateway), *tunnel_routes(gateway)],
        lifespan=_lifespan(gateway),
        exception_handlers={HTTPException: _on_http(gateway), Exception: _on_failure(gateway)},
    )
    app.state.openapi = openapi.document(OPERATIONS, gateway.config.network, SOFTWARE.rpartition("/")[2])
    return Rim(app, gateway.metrics, gateway.config.names)


def routes(gateway: Gateway) -> list[Route]:
    """One route per operation, a second under /v1 where it is part of the API."""
    found = []
    for operation in OPERATIONS:
        handler = endpoint(operation, gateway)
        found.append(Route(operation.path, handler, methods=[operation.method], name=operation.name))
        if operation.is_api:
            found.append(
                Route(f"/v1{operation.path}", handler, methods=[operation.method], name=f"v1.{operation.name}")
            )
    return found


def _lifespan(gateway: Gateway) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with gateway.node, gateway.live.running():
            yield
        closing = gateway.close() if gateway.close else None
        if inspect.isawaitable(closing):
            await closing

    return lifespan


def _on_http(gateway: Gateway) -> OnError:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = STATUS_CODES.get(error.status_code, "internal")
        allowed = {"Allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else {}
        problem = HttpProblem(code, f"{request.method} {request.url.path[:200]}: {error.detail}", headers=allowed)
        return problem_response(problem, request, gateway, is_page=_wants_page(request))

    return answer


def _on_failure(gateway: Gateway) -> OnError:
    async def answer(request: Request, error: Exception) -> Response:
        return problem_response(
            LocalError(repr(error), code="internal"), request, gateway, is_page=_wants_page(request)
        )

    return answer


def _wants_page(request: Request) -> bool:
    """Browsers name text/html first; programs do not."""
    return request.headers.get("accept", "").startswith("text/html")
