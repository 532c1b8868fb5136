"""Tunnels into running chunks over WebSocket: `/v1/jobs/{job}/chunks/{chunk}/ports/{port}` and `…/shell`.

The gateway opens the tunnel at its node and copies bytes; binary messages carry the frames of specs/24-tunnels.md, and
where one message ends means nothing. A token in the Authorization header is needed, which no web page of another site
can send; without a tunnel the handshake is answered with a problem like any other request.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway import clock
from gateway.door import by_bearer, problem_response
from gateway.problems import HttpProblem
from gateway.rim import request_id
from gateway.routing import decode_query
from gateway.state import Gateway
from protocol.errors import ShoalError
from protocol.overlay.tunnel import COMMAND_CHARS_MAX, TERM
from protocol.overlay.tunnel_frames import SIDE_MAX

OPEN_S: Final = 60.0
"""Seconds in which the node opens a tunnel or says why not: a path, a turn, the sandbox."""

READ_BYTES: Final = 64 << 10
"""One read, and one message towards the renter."""

TUNNELS_MAX: Final = 96
"""Open at the same time, of all accounts: each takes a connection of the node, which has 128."""

TUNNELS_PER_ACCOUNT: Final = 48
"""Open at the same time by one account: three chunks with all that a provider lets in."""


class ShellQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How a shell is started; `command` empty = interactive."""

    command: Annotated[str, Meta(max_length=COMMAND_CHARS_MAX)] = ""
    terminal: bool = True
    rows: Annotated[int, Meta(ge=1, le=SIDE_MAX)] = 24
    columns: Annotated[int, Meta(ge=1, le=SIDE_MAX)] = 80
    term: Annotated[str, Meta(pattern=TERM)] = "xterm-256color"


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """A port needs nothing else."""


def tunnel_routes(gateway: Gateway) -> list[WebSocketRoute]:
    """Both routes, under /v1 and without."""
    doors = Tunnels(gateway)
    found = []
    for prefix in ("", "/v1"):
        chunk = f"{prefix}/jobs/{{job}}/chunks/{{chunk:int}}"
        found.append(WebSocketRoute(f"{chunk}/ports/{{port:int}}", doors.port))
        found.append(WebSocketRoute(f"{chunk}/shell", doors.shell))
    return found


class Tunnels:
    """The open tunnels of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._open: dict[str, int] = {}

    async def port(self, socket: WebSocket) -> None:
        """To a port of a chunk."""
        await self._serve(socket, NoQuery)

    async def shell(self, socket: WebSocket) -> None:
        """To a shell beside a chunk."""
        await self._serve(socket, ShellQuery)

    async def _serve(self, socket: WebSocket, query: type[Struct]) -> None:
        request = Request({**socket.scope, "type": "http", "method": "GET"})
        request.state.request_id = request_id(socket.headers.get("x-request-id", ""))
        account = ""
        try:
            account, params = await self._admitted(request, query)
            reader, writer = await self._opened(params)
            try:
                await socket.accept()
                await self._carry(socket, reader, writer)
            finally:
                writer.close()
        except ShoalError as error:
            response = problem_response(error, request, self._gateway, is_page=False)
            await socket.send_denial_response(response)
        finally:
            self._release(account)

    async def _opened(self, params: dict[str, object]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(OPEN_S):
                return await self._gateway.node.taken_over("tunnel.open", params)
        except TimeoutError:
            raise HttpProblem("node_timeout", f"the tunnel did not open within {OPEN_S:g} s") from None

    async def _admitted(self, request: Request, query: type[Struct]) -> tuple[str, dict[str, object]]:
        """The account, counted, and the node's parameters."""
        gateway = self._gateway
        caller = await by_bearer(gateway, request)
        allowance = gateway.by_token.take(caller.token, clock.steady())
        if not allowance.is_allowed:
            headers = allowance.headers()
            raise HttpProblem("rate_limited", f"more than {allowance.limit} requests in a minute", headers=headers)
        if "jobs" not in caller.scopes:
            raise HttpProblem("scope_missing", f"the token {caller.prefix}… has no scope `jobs`")
        found = decode_query(request.query_params, query)
        job = str(request.path_params["job"])
        await gateway.owners.require(caller.account, job)
        if self._open.get(caller.account, 0) >= TUNNELS_PER_ACCOUNT or sum(self._open.values()) >= TUNNELS_MAX:
            raise HttpProblem(
                "tunnel_limit", f"more than {TUNNELS_PER_ACCOUNT} tunnels of this account, or {TUNNELS_MAX}"
            )
        params: dict[str, object] = {"job": job, "chunk": request.path_params["chunk"]}
        if isinstance(found, ShellQuery):
            shown = msgspec.structs.asdict(found)
            params |= {"has_terminal": shown.pop("terminal"), **shown}
        else:
            params["port"] = request.path_params["port"] or -1
        self._open[caller.account] = self._open.get(caller.account, 0) + 1
        return caller.account, params

    def _release(self, account: str) -> None:
        if account:
            self._open[account] -= 1
            if not self._open[account]:
                del self._open[account]

    async def _carry(self, socket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy until one side ends or the gateway stops; nothing is read before what was read is written."""
        tasks = [
            asyncio.create_task(_to_renter(socket, reader)),
            asyncio.create_task(_to_node(socket, writer)),
            asyncio.create_task(_stopped(self._gateway)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # The renter went first.
            await socket.close()


async def _to_renter(socket: WebSocket, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError, WebSocketDisconnect):
        while data := await reader.read(READ_BYTES):
            await socket.send_bytes(data)


async def _to_node(socket: WebSocket, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := (await socket.receive()).get("bytes"):  # A text message, or a goodbye, is the end.
            writer.write(data)
            await writer.drain()


async def _stopped(gateway: Gateway) -> None:
    await gateway.stopping.wait()
