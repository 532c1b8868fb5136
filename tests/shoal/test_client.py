"""The SDK against a real HTTP server that answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused, ShoalError, Unavailable
from shoal import client as sdk
from shoal import session
from shoal.client import Client, safe_target
from shoal.session import Event, ServerFault, events, problem_error

JOB = "job_" + "0" * 32


@dataclass(slots=True)
class Answer:
    """What the server says next on a path."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Script:
    """Answers by path, the last one for ever; and what was asked."""

    answers: dict[str, list[Answer]]
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def server(answers: dict[str, list[Answer]]) -> Iterator[Script]:
    script = Script(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            script.asked.append(
                (self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            )
            listed = script.answers.get(path) or [Answer(404, problem("not_found", "nothing here"))]
            said = listed.pop(0) if len(listed) > 1 else listed[0]
            self.send_response(said.status)
            for key, value in ({"Content-Length": str(len(said.body))} | said.headers).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = answer  # noqa: N815 - the names are the standard library's

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.url = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield script
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def problem(code: str, detail: str, **more: object) -> bytes:
    return json.dumps({"title": "T", "status": 0, "detail": detail, "code": code, "fix": "Do it.", **more}).encode()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PAUSE_FIRST_S", 0.001)
    monkeypatch.setattr(session, "PAUSE_MAX_S", 0.002)
    monkeypatch.setattr(sdk, "WAIT_PAUSE_S", 0.001)


STATUS = f"/v1/marketplace/jobs/{JOB}"


def test_a_token_goes_out_and_a_status_comes_back() -> None:
    body = json.dumps({"job": JOB, "state": "running", "steps": 3, "unheard_of": 1}).encode()
    with server({STATUS: [Answer(200, body)]}) as script, Client(script.url + "/", "secret") as shoal:
        assert shoal.status(JOB).state == "running"
        assert script.asked[0][2]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, Refused, "x"),
        (402, Refused, "x"),
        (404, Refused, "x"),
        (409, Refused, "x"),
        (500, ServerFault, "x"),
        (502, ServerFault, "x"),
    ],
)
def test_problems_become_typed_errors(status: int, kind: type[ShoalError], code: str) -> None:
    with (
        server({STATUS: [Answer(status, problem(code, "because", numbers={"need": 3}))]}) as script,
        Client(script.url) as shoal,
    ):
        with pytest.raises(kind, match="because") as caught:
            shoal.status(JOB)
        assert (caught.value.code, caught.value.fix) == (code, "Do it.")
        assert len(script.asked) == 1


def test_an_error_that_is_no_problem_document_is_still_an_error() -> None:
    assert problem_error(418, b"<html>").code == "http_418"
    assert isinstance(problem_error(503, b""), Unavailable)


def test_what_can_be_repeated_is_repeated_and_nothing_else() -> None:
    busy = Answer(503, problem("unavailable", "restarting"))
    good = Answer(200, json.dumps({"available": 5}).encode())
    deposit = "/v1/account/deposit"
    with server({deposit: [busy, busy, good]}) as script, Client(script.url) as shoal:
        assert shoal.deposit(5) == 5
        keys = [headers["idempotency-key"] for _, _, headers, _ in script.asked]
        assert len(keys) == 3
        assert len(set(keys)) == 1
    with server({"/v1/marketplace/plan": [busy, good]}) as script, Client(script.url) as shoal:
        with pytest.raises(Unavailable):
            shoal.ask(dict, "POST", "/v1/marketplace/plan", body={})
        assert len(script.asked) == 1


def test_nobody_there_is_unavailable() -> None:
    with server({}) as script:
        url = script.url
    with Client(url) as shoal, pytest.raises(Unavailable, match="no gateway answers"):
        shoal.status(JOB)


def test_a_page_that_is_no_gateway_is_a_fault_of_the_other_side() -> None:
    page = Answer(200, b"<html>welcome</html>")
    with (
        server({STATUS: [page]}) as script,
        Client(script.url) as shoal,
        pytest.raises(ServerFault, match="understand"),
    ):
        shoal.status(JOB)


def sse(*events: tuple[int | None, str, str]) -> Answer:
    text = ": hello\n\n" + "".join(
        (f"id: {number}\n" if number is not None else "") + (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
        for number, name, data in events
    )
    return Answer(200, text.encode(), {"Content-Type": "text/event-stream"})


def line(number: int) -> tuple[int, str, str]:
    return number, "", json.dumps({"sequence": number, "chunk": 1, "line": f"line {number}"})


def test_a_log_that_breaks_off_is_resumed_where_it_was() -> None:
    path = f"{STATUS}/logs"
    parts = [
        sse(line(0), line(1)),
        Answer(503, problem("unavailable", "restarting")),
        sse(line(1), line(2)),
        sse((None, "end", "")),
    ]
    with server({path: parts}) as script, Client(script.url) as shoal:
        assert [one.sequence for one in shoal.logs(JOB)] == [0, 1, 2]
        assert [headers.get("last-event-id") for _, _, headers, _ in script.asked] == [None, "1", "1", "2"]


def test_a_log_that_never_comes_back_is_given_up() -> None:
    with (
        server({f"{STATUS}/logs": [Answer(503, problem("unavailable", "away"))]}) as script,
        Client(script.url) as shoal,
    ):
        with pytest.raises(Unavailable, match="away"):
            list(shoal.logs(JOB))
        assert len(script.asked) == sdk.LOG_TRIES + 1


def test_a_problem_in_a_log_is_raised() -> None:
    said = sse((None, "problem", json.dumps({"code": "unknown_job", "detail": "no such job"})))
    with (
        server({f"{STATUS}/logs": [said]}) as script,
        Client(script.url) as shoal,
        pytest.raises(ServerFault, match="no such job"),
    ):
        list(shoal.logs(JOB))


def test_a_log_as_it_is_does_not_wait() -> None:
    with server({f"{STATUS}/logs": [Answer(200, b"[0] hello\n[2] [x] y\n")]}) as script, Client(script.url) as shoal:
        assert [(one.chunk, one.line) for one in shoal.logs(JOB, follow=False)] == [(0, "hello"), (2, "[x] y")]
        assert "follow=false" in script.asked[0][1]


def test_waiting_outlives_a_gateway_that_restarts() -> None:
    looks = [Answer(200, json.dumps({"job": JOB, "state": state}).encode()) for state in ("running", "settled")]
    away = [Answer(503, problem("unavailable", "away"))] * session.TRIES
    with server({STATUS: [looks[0], *away, looks[1]]}) as script, Client(script.url) as shoal:
        assert shoal.wait(JOB).state == "settled"
        with pytest.raises(Unavailable, match="not over"):
            script.answers[STATUS] = [looks[0]]
            shoal.wait(JOB, timeout_s=0.01)


def result(content: bytes, path: str, digest: str) -> dict[str, list[Answer]]:
    listed = {"files": [{"path": path, "digest": digest, "size": len(content), "chunk": 0}]}
    return {
        f"{STATUS}/result": [Answer(200, json.dumps(listed).encode())],
        f"{STATUS}/result/{path}": [Answer(200, content)],
    }


def test_a_result_is_kept_only_with_the_right_hash(tmp_path: Path) -> None:
    content = b"pixels" * 1000
    right = blake3(content).hexdigest()
    with server(result(content, "0/a.png", right)) as script, Client(script.url) as shoal:
        saved = shoal.result(JOB, tmp_path)
        assert saved[0].path.read_bytes() == content
    wrong = result(content, "b.png", "0" * 64)
    with server(wrong) as script, Client(script.url) as shoal, pytest.raises(ServerFault, match="digest"):
        shoal.result(JOB, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.png"]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\\b", "a\0b", ".."])
def test_a_result_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refused, match="outside"):
        safe_target(tmp_path, path)


@given(st.lists(st.text(), max_size=30))
def test_event_streams_never_crash(lines: list[str]) -> None:
    for event in events(iter(lines)):
        assert isinstance(event, Event)


@given(
    st.lists(
        st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1),
        min_size=1,
        max_size=5,
    )
)
def test_event_data_is_kept_as_sent(lines: list[str]) -> None:
    sent = [f"data: {text}" for text in lines] + ["id: 7", ""]
    assert list(events(iter(sent))) == [Event("message", "\n".join(lines), "7")]
