"""The documentation that the gateway serves itself, drawn from the same values as its behaviour."""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

from gateway.problems import PROBLEMS
from gateway.routing import Call, json_reply


async def show_openapi(call: Call) -> Response:
    """The OpenAPI 3.1 document."""
    return json_reply(call.request.app.state.openapi)


async def show_docs(call: Call) -> Response:
    """The API for people."""
    return _page(call, "docs.html", {"api": call.request.app.state.openapi})


async def show_problems(call: Call) -> Response:
    """Every problem, what it means and what to do."""
    return _page(call, "problems.html", {"problems": PROBLEMS})


def _page(call: Call, template: str, values: dict[str, object]) -> Response:
    shell: dict[str, object] = {"network": call.gateway.config.network, "caller": call.caller}
    return HTMLResponse(call.gateway.templates.get_template(template).render(**shell, **values))
