"""Who may do what: tokens, scopes, tenants, rates, hosts, headers. The matrix is made from the list of operations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from gateway import accounts, database
from gateway.openapi import document
from gateway.operations import OPERATIONS
from gateway.problems import PROBLEMS
from gateway.routing import Operation, problem_codes
from protocol.errors import Refused

if TYPE_CHECKING:
    from tests.gateway.served import Site

SPEC = {"name": "x", "runtime": "python", "commands": ["true"], "chunks": [{}]}
BODIES: dict[str, dict[str, object]] = {
    "submitJob": {"spec": SPEC}, "planJob": {"spec": SPEC}, "extendJob": {"spend_cap": 5}, "deposit": {"amount": 5},
    "appealClaim": {"chunk": 0},
    "createVolume": {"name": "v"}, "listVolumes": {}, "showVolume": {"name": "v"}, "missingPieces": {"digests": []},
    "commitVersion": {"name": "v", "tree": "0" * 64}, "openVersion": {"name": "v"},
    "snapshotVolume": {"name": "v", "snapshot": "s"}, "removeVolume": {"name": "v"}, "volumeKey": {},
}  # fmt: skip
WITH_TOKEN = [operation for operation in OPERATIONS if operation.auth == "token"]
OF_A_JOB = [operation for operation in WITH_TOKEN if "{job}" in operation.path]
FOREIGN = "job_" + "0" * 32


def send(client: httpx.Client, operation: Operation, job: str = FOREIGN) -> httpx.Response:
    """The operation with a body that it takes."""
    path = operation.path.replace("{job}", job).replace("{path:path}", "file").replace("{digest}", "0" * 64)
    if operation.method == "GET":
        return client.get(path, params={"follow": "false"} if operation.name == "readLog" else {})
    headers = {"Idempotency-Key": f"matrix-{operation.name}"} if operation.takes_key else {}
    if operation.is_stream_body:
        return client.post(path, content=b"x", headers=headers | {"Content-Type": "application/octet-stream"})
    if operation.body is None:
        return client.post(path, headers=headers)
    return client.post(path, json=BODIES[operation.name], headers=headers)


@pytest.mark.parametrize("operation", WITH_TOKEN, ids=lambda operation: operation.name)
def test_every_operation_needs_a_valid_token(site: Site, operation: Operation) -> None:
    good = site.token("erin")
    wrong = {
        "": "token_missing",
        good[:-1]: "token_invalid",
        good + "x": "token_invalid",
        good.lower(): "token_invalid",
    }
    site.loop.call_soon_threadsafe(site_failures_reset, site)
    for token, code in wrong.items():
        with site.client(token) as client:
            answer = send(client, operation)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def site_failures_reset(site: Site) -> None:
    """The matrix sends more wrong tokens than an address may in a minute."""
    site.gateway.failures._buckets.clear()


@pytest.mark.parametrize("scope", accounts.SCOPES)
@pytest.mark.parametrize("operation", WITH_TOKEN, ids=lambda operation: operation.name)
def test_every_operation_needs_its_scope(site: Site, operation: Operation, scope: str) -> None:
    with site.client(site.token("frank", scope)) as client:
        answer = send(client, operation)
    if scope == operation.scope:
        assert answer.status_code != 403
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize("operation", OF_A_JOB, ids=lambda operation: operation.name)
def test_a_foreign_job_is_answered_like_one_that_does_not_exist(
    site: Site, operation: Operation, anna: httpx.Client, boris: httpx.Client
) -> None:
    job = anna.post(
        "/marketplace/jobs", json={"spec": SPEC}, headers={"Idempotency-Key": f"of-anna-{operation.name}"}
    ).json()["job"]
    foreign, unknown, malformed = (send(boris, operation, one) for one in (job, FOREIGN, "job_x"))
    texts = set()
    for answer, one in ((foreign, job), (unknown, FOREIGN), (malformed, "job_x")):
        assert answer.status_code == 404
        problem = answer.json()
        texts.add(problem["detail"].replace(one, "JOB") + problem["code"] + problem["fix"])
    assert len(texts) == 1
    assert send(anna, operation, job).status_code in (200, 404 if operation.name == "downloadResult" else 200, 409)


def test_a_revoked_or_expired_token_ends_at_once(site: Site) -> None:
    token = site.token("gina")
    with site.client(token) as client:
        assert client.get("/account").status_code == 200
        with database.connect(site.config.database) as connection:
            connection.execute(
                database.tokens.update().where(database.tokens.c.hash == accounts.digest(token)).values(revoked=1)
            )
        assert client.get("/account").json()["code"] == "token_invalid"


def test_tokens_are_hashed_at_rest_and_recognisable(site: Site) -> None:
    token = site.token("hugo")
    files = b"".join(path.read_bytes() for path in site.config.data.iterdir())
    assert token.encode() not in files
    assert token[:12].encode() in files
    assert re.fullmatch(r"shoal_[A-Za-z0-9_-]{43}", token)
    assert site.config.database.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "scopes", "code"),
    [("Bad Name", ["read"], "bad_name"), ("ok", ["root"], "bad_scope"), ("ok", [], "bad_scope")],
)
def test_tokens_with_bad_names_or_scopes_are_not_made(site: Site, name: str, scopes: list[str], code: str) -> None:
    with pytest.raises(Refused) as refused:
        accounts.create_token(site.config.database, name, scopes)
    assert refused.value.code == code and refused.value.fix


def test_a_token_may_ask_so_often(make_site: Callable[..., Site]) -> None:
    with make_site(requests_per_minute=5) as site, site.client(site.token()) as client:
        answers = [client.get("/marketplace/cluster") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"minute";q=5;w=60'
        assert answers[0].headers["ratelimit"].startswith('"minute";r=4')
        assert 1 <= int(answers[5].headers["retry-after"]) <= 12
        assert site.client(site.token("other")).get("/marketplace/cluster").status_code == 200
        assert client.get("/healthz").status_code == 200, "probes are not counted"


def test_an_address_that_guesses_tokens_has_to_wait(make_site: Callable[..., Site]) -> None:
    with make_site() as site, site.client("shoal_guess") as client:
        codes = [client.get("/account").json()["code"] for _ in range(12)]
    assert codes == ["token_invalid"] * 10 + ["rate_limited"] * 2


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("192.168.7.7", 200),
        ("evil.example", 421),
        ("", 421),
        ("localhost.evil.example:80", 421),
    ],
)
def test_the_gateway_answers_only_under_its_names(site: Site, host: str, status: int) -> None:
    assert site.client().get("/healthz", headers={"Host": host}).status_code == status


def test_every_answer_carries_its_id_and_the_security_headers(site: Site) -> None:
    client = site.client()
    for path in ("/", "/healthz", "/v1/account", "/nowhere", "/static/shoal.css"):
        answer = client.get(path, headers={"X-Request-Id": "my-id_7"})
        assert answer.headers["x-request-id"] == "my-id_7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert re.fullmatch(
        "req_[0-9a-f]{24}", client.get("/healthz", headers={"X-Request-Id": "bad id\t<"}).headers["x-request-id"]
    )


def test_no_route_without_documentation(site: Site) -> None:
    paths = document(OPERATIONS, "n", "0")["paths"]
    assert isinstance(paths, dict)
    routes = [route for route in site.app.app.routes if isinstance(route, Route)]
    sockets = {route.path for route in site.app.app.routes if isinstance(route, WebSocketRoute)}
    assert len(routes) + len(sockets) == len(site.app.app.routes)
    served = {
        (method, route.path.replace(":path", "")) for route in routes for method in (route.methods or set()) - {"HEAD"}
    }
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert {(method, path.removeprefix("/v1") or "/") for method, path in served} == documented
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    guide = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| WebSocket \| `([^`]+)`", guide, re.MULTILINE))
    assert {path.replace(":int", "").removeprefix("/v1") for path in sockets} == told, "OpenAPI knows no WebSockets"


def test_every_problem_that_an_operation_names_is_in_the_table() -> None:
    assert {code for operation in OPERATIONS for code in problem_codes(operation)} <= set(PROBLEMS)


def test_a_page_session_is_a_cookie_that_scripts_and_other_sites_cannot_use(site: Site) -> None:
    token = site.token("ivy")
    with site.client() as client:
        answer = client.post("/signin", data={"token": token, "next": "//evil.example/"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and token.lower() not in cookie
        assert "ivy" in client.get("/").text
        assert client.get("/v1/account").status_code == 401, "the API takes tokens only"
        foreign = client.post("/signout", headers={"Origin": "https://evil.example"})
        assert (foreign.status_code, "ivy" in client.get("/").text) == (403, True)
        secret = client.cookies["shoal_session"]
        client.post("/signout")
        client.cookies.set("shoal_session", secret)
        assert "ivy" not in client.get("/").text, "the session is gone on the server too"


def test_a_stranger_sees_no_names_logs_results_or_money(site: Site, anna: httpx.Client) -> None:
    spec = SPEC | {"name": "very-secret-name"}
    job = anna.post("/marketplace/jobs", json={"spec": spec}, headers={"Idempotency-Key": "secret"}).json()["job"]
    with site.client() as stranger:
        page = stranger.get("/").text
        assert job in page and "very-secret-name" not in page
        for path in ("", "/live", "/log", "/files/a.png"):
            answer = stranger.get(f"/jobs/{job}{path}")
            assert answer.status_code == 401 and answer.headers["content-type"].startswith("text/html")
        stranger.post("/signin", data={"token": site.token("boris")})
        assert stranger.get(f"/jobs/{job}").status_code == 404
