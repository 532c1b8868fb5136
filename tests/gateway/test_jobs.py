"""The job API end to end over HTTP: submit, idempotency, changes, logs that resume, results, blobs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.ownership import derived_key
from protocol.units import CREDIT

if TYPE_CHECKING:
    from tests.gateway.served import Site

JOBS = "/v1/marketplace/jobs"
_keys = count()


def body(name: str = "render", chunks: int = 3) -> dict[str, object]:
    """A request for a small job."""
    pieces = [{"env": [["TILE", str(index)]]} for index in range(chunks)]
    return {"spec": {"name": name, "runtime": "python", "commands": ["python -c 'print(1)'"], "chunks": pieces}}


def submit(client: httpx.Client, name: str = "render") -> str:
    """A new job's id."""
    answer = client.post(JOBS, json=body(name), headers={"Idempotency-Key": f"new-{next(_keys)}"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job"])


def test_a_job_is_quoted_then_confirmed_then_shown(anna: httpx.Client) -> None:
    created = anna.post(JOBS, json=body(), headers={"Idempotency-Key": "first"})
    job = created.json()["job"]
    assert created.status_code == 201
    assert created.headers["location"] == f"{JOBS}/{job}"
    assert created.json()["quote"]["total_max"] > 0
    assert anna.get(f"{JOBS}/{job}/quote").json() == created.json()["quote"]
    confirmed = anna.post(f"{JOBS}/{job}/confirm")
    assert confirmed.json()["state"] == "running"
    assert anna.post(f"/marketplace/jobs/{job}/confirm").json() == confirmed.json(), "the same without /v1, and twice"
    assert anna.get(f"{JOBS}/{job}").json()["state"] == "running"


def test_fields_that_the_gateway_does_not_know_stay_inside(anna: httpx.Client) -> None:
    offers = anna.get("/v1/market/offers").json()["offers"]
    assert offers and all("secret_note" not in offer for offer in offers)


IDEMPOTENCY = [
    ("same key, same body", "k-a", body(), "k-a", body(), 201, "replay"),
    ("same key, other body", "k-b", body(), "k-b", body("other"), 422, "key_reused"),
    ("other key, same body", "k-c", body(), "k-d", body(), 201, "new"),
    ("first one was refused", "k-e", {"spec": {"name": "x"}}, "k-e", body(), 201, "new"),
]


@pytest.mark.parametrize(("case", "key", "first", "key_again", "second", "status", "what"), IDEMPOTENCY)
def test_idempotency(
    anna: httpx.Client, case: str, key: str, first: object, key_again: str, second: object, status: int, what: str
) -> None:
    before = anna.post(JOBS, json=first, headers={"Idempotency-Key": key})
    after = anna.post(JOBS, json=second, headers={"Idempotency-Key": key_again})
    assert after.status_code == status, case
    if what == "replay":
        assert after.json() == before.json() and after.headers["idempotency-replayed"] == "true"
    elif what == "new":
        assert after.json()["job"] != before.json().get("job") and "idempotency-replayed" not in after.headers
    else:
        assert after.json()["code"] == what


def test_two_accounts_may_use_one_key(anna: httpx.Client, boris: httpx.Client) -> None:
    jobs = {
        client.post(JOBS, json=body(), headers={"Idempotency-Key": "shared"}).json()["job"] for client in (anna, boris)
    }
    assert len(jobs) == 2


def test_a_second_request_while_the_first_runs_is_told_so(site: Site) -> None:
    token = site.token("carol")

    async def twice() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=site.url, headers={"Authorization": f"Bearer {token}"}, timeout=60
        ) as client:
            await client.get("/account")
            site.act(lambda network: network.stall())
            slow = asyncio.create_task(client.post(JOBS, json=body(), headers={"Idempotency-Key": "slow"}))
            await asyncio.to_thread(site.do, site.network.arrived.wait)
            refused = await client.post(JOBS, json=body(), headers={"Idempotency-Key": "slow"})
            site.act(lambda network: network.release())
            return [await slow, refused]

    first, second = asyncio.run(twice())
    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "key_in_progress")
    assert second.headers["retry-after"]


def test_the_network_key_depends_on_account_purpose_and_key_only() -> None:
    assert derived_key("a", "job", "k") == derived_key("a", "job", "k")
    assert (
        len(
            {
                derived_key("a", "job", "k"),
                derived_key("b", "job", "k"),
                derived_key("a", "deposit", "k"),
                derived_key("a", "job", "l"),
            }
        )
        == 4
    )


def test_a_deposit_counts_once(anna: httpx.Client) -> None:
    before = anna.get("/account").json()["available"]
    for _ in range(3):
        answer = anna.post("/account/deposit", json={"amount": 5 * CREDIT}, headers={"Idempotency-Key": "pay-1"})
        assert answer.status_code == 201
    assert anna.get("/account").json()["available"] == before + 5 * CREDIT
    lines = anna.get("/account/statement").json()["lines"]
    assert sum(line["amount"] for line in lines) == before + 5 * CREDIT


def test_jobs_are_listed_in_pages(site: Site) -> None:
    with site.client(site.token("dora")) as client:
        made = [submit(client, f"job{index}") for index in range(5)]
        page = client.get(JOBS, params={"limit": 2})
        following: str | None = page.links["next"]["url"]
        seen = [job["job"] for job in page.json()["jobs"]]
        while following:
            page = client.get(following)
            seen += [job["job"] for job in page.json()["jobs"]]
            following = page.links.get("next", {}).get("url")
    assert seen == made[::-1]


def test_extend_sets_absolute_limits(anna: httpx.Client) -> None:
    job = submit(anna)
    assert anna.post(f"{JOBS}/{job}/extend", json={"spend_cap": 77}).json()["money"]["cap"] == 77
    assert anna.post(f"{JOBS}/{job}/extend", json={}).json()["code"] == "invalid_body"
    assert anna.post(f"{JOBS}/{job}/extend", json={"state": "settled"}).json()["errors"][0]["pointer"] == "/state"


def test_the_plan_names_who_is_left_out_and_why(anna: httpx.Client) -> None:
    plan = anna.post("/marketplace/plan", json=body()).json()
    assert plan["candidates"] and plan["excluded"][0]["code"] == "no_slots"


def test_resources_say_who_holds_what(site: Site, anna: httpx.Client) -> None:
    job = submit(anna)
    anna.post(f"{JOBS}/{job}/confirm")
    site.act(lambda network: network.work(job, 2, 1))
    found = anna.get(f"{JOBS}/{job}/resources").json()
    assert found["chunks_by_state"] == {"accepted": 2, "claimed": 1}
    assert sum(provider["chunks_accepted"] for provider in found["providers"]) == found["accepted"] == 2


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def frames(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Server-sent events as dicts."""
    frame: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            frame[name] = value.strip()
        else:
            yield frame
            frame = {}


def test_the_log_resumes_behind_the_last_event_and_ends(site: Site, anna: httpx.Client) -> None:
    job = submit(anna)
    site.act(lambda network: network.say(job, *(f"line {index}" for index in range(6))))
    with anna.stream("GET", f"{JOBS}/{job}/logs") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = frames(answer.iter_lines())
        assert next(events) == {"retry": "1000"}
        first = [next(events) for _ in range(3)]
    assert [json.loads(event["data"])["line"] for event in first] == ["line 0", "line 1", "line 2"]
    with anna.stream("GET", f"{JOBS}/{job}/logs", headers={"Last-Event-ID": first[-1]["id"]}) as answer:
        events = frames(answer.iter_lines())
        next(events)
        rest = [next(events) for _ in range(3)]
        site.act(lambda network: network.say(job, "late"))
        site.act(lambda network: network.settle(job, {}))
        late, end = next(events), next(events)
    assert [json.loads(event["data"])["line"] for event in rest] == ["line 3", "line 4", "line 5"]
    assert json.loads(late["data"])["line"] == "late"
    assert end["event"] == "end"


def test_the_log_as_text(site: Site, anna: httpx.Client) -> None:
    job = submit(anna)
    site.act(lambda network: network.say(job, "<b>héllo", chunk=7))
    answer = anna.get(f"{JOBS}/{job}/logs", params={"follow": "false"})
    assert answer.text == "[7] <b>héllo\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert anna.get(f"{JOBS}/{job}/logs", headers={"Last-Event-ID": "x"}).json()["code"] == "invalid_header"


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_results_come_back_as_they_were(site: Site, anna: httpx.Client) -> None:
    job = submit(anna)
    big = bytes(range(256)) * 9000
    files = {"a/b c.bin": big, "p.png": b"\x89PNG", "evil.svg": b"<svg onload=alert(1)>", "empty": b""}
    site.act(lambda network: network.settle(job, files))
    listed = anna.get(f"{JOBS}/{job}/result").json()["files"]
    assert {file["path"] for file in listed} == set(files)
    got = {path: anna.get(f"{JOBS}/{job}/result/{path}") for path in files}
    assert {path: answer.content for path, answer in got.items()} == files
    assert got["p.png"].headers["content-type"] == "image/png"
    assert got["evil.svg"].headers["content-type"] == "application/octet-stream"
    assert got["evil.svg"].headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got["p.png"].headers["content-security-policy"]
    again = anna.get(f"{JOBS}/{job}/result/p.png", headers={"If-None-Match": got["p.png"].headers["etag"]})
    assert again.status_code == 304
    assert anna.get(f"{JOBS}/{job}/result/nothing").status_code == 404
    assert anna.get(f"{JOBS}/{job}/receipt").content == b"\x93receipt"


def test_a_receipt_that_is_not_there_yet(anna: httpx.Client) -> None:
    answer = anna.get(f"{JOBS}/{submit(anna)}/receipt")
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (409, "no_receipt", True)


def test_a_file_is_uploaded_in_parts(site: Site, anna: httpx.Client) -> None:
    data = bytes(3_000_001)
    stored = anna.post("/blobs", content=data, headers={"Content-Type": "application/octet-stream"})
    assert stored.status_code == 201 and stored.json()["size"] == len(data)
    assert site.act(lambda network: network.blobs[stored.json()["digest"]]) == data


def test_an_upload_of_unknown_length_or_too_large_is_refused(make_site: Callable[..., Site]) -> None:
    with make_site(blob_bytes_max=10) as site, site.client(site.token()) as client:
        octets = {"Content-Type": "application/octet-stream"}
        assert client.post("/blobs", content=iter([b"x"]), headers=octets).json()["code"] == "length_required"
        assert client.post("/blobs", content=b"x" * 11, headers=octets).json()["code"] == "body_too_large"
        assert (
            client.post("/blobs", content=b"x", headers={"Content-Type": "text/plain"}).json()["code"] == "media_type"
        )


def test_a_job_submitted_behind_the_gateways_back_is_still_its_renters(
    site: Site, anna: httpx.Client, boris: httpx.Client
) -> None:
    renter = anna.get("/account").json()["renter"]
    spec = body("elsewhere")["spec"]
    job = site.act(
        lambda network: network.on_job_submit({"spec": spec, "renter": renter, "key": "other gateway"})["job"]
    )
    assert boris.get(f"{JOBS}/{job}").status_code == 404
    assert anna.get(f"{JOBS}/{job}").json()["name"] == "elsewhere"
    assert re.fullmatch("job_[0-9a-f]{32}", str(job))
