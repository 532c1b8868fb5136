"""Errors as problems: one table, every field, nothing of the inside shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.node_client import NodeError
from gateway.problems import PROBLEMS, SYNONYMS, FieldError, HttpProblem, problem_of
from protocol.errors import LocalError, Refused, RemoteViolation, ShoalError, Unavailable
from protocol.units import PeerId

if TYPE_CHECKING:
    from tests.gateway.served import Site

SPEC = {"name": "x", "runtime": "python", "commands": ["true"], "chunks": [{}]}


def node_error(code: str, fault: str) -> NodeError:
    """As it comes over the socket."""
    return NodeError("why", code=code, fix="do this", fault=fault, numbers={"have": 1, "need": 2})


TABLE: list[tuple[ShoalError, int, bool, str]] = [
    (node_error("insufficient_funds", "caller"), 402, False, "insufficient_funds"),
    (node_error("no_such_rule", "caller"), 422, False, "refused"),
    (node_error("bid_lost", "remote"), 502, True, "remote"),
    (node_error("broken", "local"), 500, True, "internal"),
    (node_error("busy", "unavailable"), 503, True, "unavailable"),
    (node_error("disk_full", "caller"), 507, True, "disk_full"),
    (node_error("no_such_job", "caller"), 404, False, "unknown_job"),
    (Unavailable("late", code="node_timeout"), 504, True, "node_timeout"),
    (Unavailable("gone", code="node_unreachable"), 503, True, "node_unreachable"),
    (Refused("no", code="bad_spec"), 422, False, "bad_spec"),
    (LocalError("secret inside"), 500, True, "internal"),
    (RemoteViolation(PeerId(bytes(32)), "rule"), 502, True, "remote"),
    (HttpProblem("key_reused", "again", errors=(FieldError("/a", "b"),)), 422, False, "key_reused"),
]


@pytest.mark.parametrize(
    ("error", "status", "retryable", "page"), TABLE, ids=lambda value: getattr(value, "code", None)
)
def test_every_error_has_its_status(error: ShoalError, status: int, retryable: bool, page: str) -> None:
    problem, headers = problem_of(error, "/v1/x", "req_1")
    assert (problem.status, problem.retryable, problem.type) == (status, retryable, f"/docs/problems#{page}")
    assert problem.title and problem.detail and problem.instance == "/v1/x" and problem.request_id == "req_1"
    assert ("Retry-After" in headers) == (status in (503, 507))
    assert "secret" not in problem.detail
    if isinstance(error, NodeError):
        assert problem.numbers == {"have": 1, "need": 2} and problem.fix == "do this" and problem.code == error.code


def test_the_table_is_whole() -> None:
    assert set(SYNONYMS.values()) <= set(PROBLEMS)
    assert all(400 <= row.status < 600 and row.title for row in PROBLEMS.values())
    assert all(row.is_retryable for row in PROBLEMS.values() if row.status in (429, 503, 504))


OVER_HTTP: list[tuple[str, str, dict[str, object], int, str]] = [
    ("GET", "/v1/nothing", {}, 404, "not_found"),
    ("DELETE", "/v1/marketplace/jobs", {}, 405, "method_not_allowed"),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b"{", "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_body",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b"\xff", "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_body",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b'{"spec":{"a":' + b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
        400,
        "malformed_body",
    ),
    ("POST", "/v1/marketplace/jobs", {"json": []}, 422, "invalid_body"),
    ("POST", "/v1/marketplace/jobs", {"json": {"spec": SPEC, "price": 1}}, 422, "invalid_body"),
    ("POST", "/v1/marketplace/jobs", {"json": {"spec": SPEC | {"chunks": []}}}, 422, "bad_spec"),
    ("POST", "/v1/marketplace/jobs", {"json": {"spec": SPEC | {"tiemout": 1}}}, 422, "bad_spec"),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b"name: x", "headers": {"Content-Type": "text/plain"}},
        415,
        "media_type",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b"name: x", "headers": {"Content-Type": "application/yaml"}},
        415,
        "media_type",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"json": {"spec": SPEC}, "headers": {"Idempotency-Key": "a b"}},
        400,
        "key_malformed",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"json": {"spec": SPEC}, "headers": {"Idempotency-Key": "x" * 256}},
        400,
        "key_malformed",
    ),
    ("GET", "/v1/marketplace/jobs?limit=0", {}, 400, "invalid_query"),
    ("GET", "/v1/marketplace/jobs?limit=1&limit=2", {}, 400, "invalid_query"),
    ("GET", "/v1/marketplace/jobs?page=2", {}, 400, "invalid_query"),
    ("GET", "/v1/marketplace/jobs/../../etc/passwd", {}, 404, "not_found"),
    ("POST", "/v1/account/deposit", {"json": {"amount": 5}}, 400, "key_missing"),
    ("POST", "/v1/account/deposit", {"json": {"amount": 0}, "headers": {"Idempotency-Key": "z"}}, 422, "invalid_body"),
    (
        "POST",
        "/v1/account/deposit",
        {"json": {"amount": 1.5}, "headers": {"Idempotency-Key": "z"}},
        422,
        "invalid_body",
    ),
    (
        "POST",
        "/v1/account/deposit",
        {"json": {"amount": 2**63}, "headers": {"Idempotency-Key": "z"}},
        422,
        "invalid_body",
    ),
    (
        "POST",
        "/v1/account/deposit",
        {"json": {"amount": 2**60}, "headers": {"Idempotency-Key": "z"}},
        402,
        "insufficient_funds",
    ),
    (
        "POST",
        "/v1/marketplace/jobs",
        {"content": b" " * (5 << 20), "headers": {"Content-Type": "application/json"}},
        413,
        "body_too_large",
    ),
]


@pytest.mark.parametrize(
    ("method", "path", "extra", "status", "code"),
    OVER_HTTP,
    ids=[f"{row[4]}-{index}" for index, row in enumerate(OVER_HTTP)],
)
def test_bad_requests(
    anna: httpx.Client, method: str, path: str, extra: dict[str, object], status: int, code: str
) -> None:
    answer = anna.request(method, path, **extra)  # type: ignore[arg-type]
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status and problem["request_id"] == answer.headers["x-request-id"]
    assert problem["type"].startswith("/docs/problems#") and problem["fix"]


def test_a_wrong_specification_is_pointed_at(anna: httpx.Client) -> None:
    wrong = SPEC | {"files": [{"path": "a", "digest": "zz", "size": 1}]}
    problem = anna.post("/marketplace/jobs", json={"spec": wrong}).json()
    assert problem["errors"][0]["pointer"] == "/spec/files/0/digest"
    assert anna.post("/marketplace/jobs", json={"spec": 5}).json()["errors"][0]["pointer"] == "/spec"


def test_a_failure_inside_shows_nothing_of_it(site: Site, anna: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(account: str) -> str:
        raise ZeroDivisionError("a secret path")

    monkeypatch.setattr(site.gateway.owners, "renter", broken)
    answer = anna.get("/v1/account")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text and answer.headers["x-request-id"] == answer.json()["request_id"]
