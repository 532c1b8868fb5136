"""The page: an overview that everyone may see, a job that its owner may see, both kept current by server-sent events.

The server renders fragments and sends those that changed; the browser puts them in place and holds no state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from gateway import door, graph
from gateway.accounts import SESSION_LIFE
from gateway.jobs import job_status
from gateway.ledger_view import book_of
from gateway.live import View
from gateway.logs import log_lines
from gateway.problems import HttpProblem
from gateway.results import picture_type, result_files
from gateway.routing import Call, field_error
from gateway.schemas import JobStatus, ResultFile, SignIn
from gateway.sse import EventStream, event, paced
from protocol.errors import ShoalError, Unavailable
from protocol.escrow_state import POSTED_KINDS

STATIC: Final = Path(__file__).parent / "static"
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
OVERVIEW_PARTS: Final = ("summary", "graph", "jobs", "peers", "events")
JOB_PARTS: Final = ("job_head", "hosts", "chunks", "result", "money", "attempts")


@dataclass(frozen=True, slots=True)
class Page:
    """What the templates of one viewer see."""

    view: View
    renter: str
    """The viewer's renter; empty for the public."""
    job: JobStatus | None = None
    files: tuple[ResultFile, ...] = ()

    def values(self) -> dict[str, object]:
        """Names in the templates."""
        return {
            "view": self.view,
            "renter": self.renter,
            "job": self.job,
            "files": self.files,
            "wide": graph.draw(self.view, 760, 400),
            "narrow": graph.draw(self.view, 340, 400),
            "letters": graph.letters(self.view.peers),
            "hues": graph.hues(self.view.peers),
            "book": book_of(self.job.money) if self.job and self.job.money else None,
            "picture_type": picture_type,
            "posted_kinds": POSTED_KINDS,
        }


def _shell(call: Call) -> dict[str, object]:
    return {"network": call.gateway.config.network, "caller": call.caller}


async def _renter(call: Call) -> str:
    if call.caller is None:
        return ""
    try:
        return await call.gateway.owners.renter(call.caller.account)
    except ShoalError:
        return ""


async def show_overview(call: Call) -> Response:
    """The network at a glance."""
    page = Page(await call.gateway.live.fresh(), await _renter(call))
    return _html(call, "overview.html", page.values() | {"parts": OVERVIEW_PARTS})


async def show_job_page(call: Call) -> Response:
    """One job: chunks, log, result, money."""
    page = await _job_page(call, await call.gateway.live.fresh())
    return _html(call, "job.html", page.values() | {"parts": JOB_PARTS})


async def _job_page(call: Call, view: View) -> Page:
    status = await job_status(call)
    files: tuple[ResultFile, ...] = ()
    if status.accepted:
        try:
            files = tuple(await result_files(call))
        except ShoalError:
            files = ()
    return Page(view, status.renter, status, files)


def _html(call: Call, template: str, values: dict[str, object]) -> Response:
    text = call.gateway.templates.get_template(template).render(**_shell(call), **values)
    return HTMLResponse(text, headers={"Cache-Control": "no-store"})


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def stream_overview(call: Call) -> Response:
    """Fragments of the overview that changed."""
    renter = await _renter(call)

    async def page(view: View) -> Page:
        return Page(view, renter)

    return EventStream(_fragments(call, OVERVIEW_PARTS, page), call.gateway.metrics)


async def stream_job(call: Call) -> Response:
    """Fragments of the job's page that changed."""
    await job_status(call)

    async def page(view: View) -> Page:
        return await _job_page(call, view)

    return EventStream(_fragments(call, JOB_PARTS, page), call.gateway.metrics)


async def _fragments(
    call: Call, parts: tuple[str, ...], page: Callable[[View], Awaitable[Page]]
) -> AsyncGenerator[bytes]:
    sent: dict[str, str] = {}
    with call.gateway.live.watching():
        async with aclosing(paced(_views(call), call.gateway.stopping)) as views:
            async for view in views:
                if view is None:
                    yield b": still here\n\n"
                    continue
                try:
                    shown = await page(view)
                except Unavailable as error:
                    yield f": {error.code}\n\n".encode()
                    continue
                changed = _changed(call, parts, shown, sent)
                if changed:
                    yield event(changed, event_id=view.version)


async def _views(call: Call) -> AsyncGenerator[View]:
    version = 0
    while True:
        view = await call.gateway.live.after(version)
        version = view.version
        yield view


def _changed(call: Call, parts: tuple[str, ...], page: Page, sent: dict[str, str]) -> str:
    values = page.values() | _shell(call)
    texts = []
    for part in parts:
        text = call.gateway.templates.get_template(f"fragments/{part}.html").render(**values)
        if sent.get(part) != text:
            sent[part] = text
            texts.append(f'<div id="part-{part}" hx-swap-oob="innerMorph">{text}</div>')
    return "\n".join(texts)


async def stream_log(call: Call) -> Response:
    """New lines of the job's log, as list items."""
    await job_status(call)
    given = call.request.headers.get("last-event-id", "")
    after = int(given) if given.isascii() and given.isdigit() else None
    return EventStream(_log_items(call, after), call.gateway.metrics)


async def _log_items(call: Call, after: int | None) -> AsyncGenerator[bytes]:
    template = call.gateway.templates.get_template("fragments/log_line.html")
    try:
        async with aclosing(paced(log_lines(call, after, follow=True), call.gateway.stopping)) as lines:
            async for line in lines:
                yield b": still here\n\n" if line is None else event(template.render(line=line), event_id=line.sequence)
    except ShoalError as error:
        yield f": {error.code}\n\n".encode()
        return
    if not call.gateway.stopping.is_set():
        yield event("", name="end")


# ── signing in ───────────────────────────────────────────────────────────────────────────────────────────────────────
async def show_sign_in(call: Call) -> Response:
    """The form."""
    return _html(call, "signin.html", {"next": call.request.query_params.get("next", "/")})


async def sign_in(call: Call) -> Response:
    """A token for a cookie that scripts cannot read and other sites cannot use."""
    _same_origin(call)
    form = _form(call)
    caller = await door.by_token(call.gateway, call.request, form.token.strip())
    secret = await call.gateway.accounts.open_session(caller)
    response = RedirectResponse(_local(form.next), 303)
    is_secure = call.request.url.scheme == "https"
    response.set_cookie(
        door.SESSION_COOKIE,
        secret,
        max_age=SESSION_LIFE // 1_000_000,
        httponly=True,
        samesite="strict",
        secure=is_secure,
        path="/",
    )
    return response


async def sign_out(call: Call) -> Response:
    """Forget the session, here and in the browser."""
    _same_origin(call)
    secret = call.request.cookies.get(door.SESSION_COOKIE)
    if secret:
        await call.gateway.accounts.close_session(secret)
    response = RedirectResponse("/", 303)
    response.delete_cookie(door.SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _same_origin(call: Call) -> None:
    """Browsers name the site that a form came from; other programs name none."""
    origin = call.request.headers.get("origin")
    if origin not in (None, "null") and urlsplit(origin or "").netloc != call.request.headers.get("host"):
        raise HttpProblem("foreign_origin", f"the form came from {str(origin)[:100]!r}")


def _form(call: Call) -> SignIn:
    try:
        fields = parse_qs(call.raw.decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=8)
        return msgspec.convert({name: values[-1] for name, values in fields.items()}, SignIn)
    except (UnicodeDecodeError, ValueError) as error:
        raise HttpProblem(
            "invalid_body", f"the form is not complete: {error}", errors=(field_error(str(error)),)
        ) from error


def _local(path: str) -> str:
    """Only places on this gateway: never another host."""
    is_local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_local else "/"


async def show_static(call: Call) -> Response:
    """Style, scripts, licences."""
    name = call.path("name")
    kind = MEDIA_TYPES.get(Path(name).suffix)
    file = STATIC / name
    if kind is None or Path(name).name != name or not file.is_file():
        raise HttpProblem("not_found", f"no file {name[:80]!r}")
    return FileResponse(file, media_type=kind, headers={"Cache-Control": "no-cache"})
