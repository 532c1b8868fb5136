"""Trust, evidence and appeals over HTTP and on the job's page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from tests.gateway.test_jobs import JOBS, body, submit

if TYPE_CHECKING:
    from tests.gateway.network_model import Network
    from tests.gateway.served import Site


def judged(site: Site, job: str) -> None:
    """Chunk 1 was found wrong and may be appealed; chunk 0 is paid."""

    def move(network: Network) -> None:
        chunks = network.jobs[job].status["chunks"]
        assert isinstance(chunks, list)
        chunks[0].update(outcome="accept", code="hash_equal", epoch=1, sentence="Everybody got the same bytes")
        chunks[1].update(
            outcome="rejected", code="update_differs", epoch=2, held_until=network.now + 600_000_000, score=0.41,
            sentence="The change is not the one of the replay", fault="provider", fix="Appeal.", evidence="cd" * 32,
        )  # fmt: skip
        network.wake()

    site.act(move)


def test_a_status_says_what_trust_does_and_costs(anna: httpx.Client) -> None:
    wanted = body()
    assert isinstance(wanted["spec"], dict)
    wanted["spec"]["trust"] = "high"
    job = anna.post(JOBS, json=wanted, headers={"Idempotency-Key": "trusting"}).json()["job"]
    trust = anna.get(f"{JOBS}/{job}").json()["trust"]
    assert (trust["level"], trust["audited"], trust["auditors"]) == ("high", 0.3, 2)
    assert trust["surcharge"] == 0.582 and trust["surcharge_per_chunk"] == 2_134
    assert trust["set_aside_per_chunk"] == 7_113  # A third of it is spent on the average.
    chances = [one["in_job"] for one in trust["caught"]]
    assert chances == sorted(chances) and 0 < chances[-1] < 1


def test_a_level_that_is_none_is_refused_with_its_place(anna: httpx.Client) -> None:
    wanted = body()
    assert isinstance(wanted["spec"], dict)
    wanted["spec"]["trust"] = "total"
    problem = anna.post(JOBS, json=wanted, headers={"Idempotency-Key": "nonsense"}).json()
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("bad_spec", "/spec/trust")


def test_evidence_lists_decisions_and_what_is_not_final(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "evident")
    assert anna.get(f"{JOBS}/{job}/evidence").json()["claims"] == []
    judged(site, job)
    evidence = anna.get(f"{JOBS}/{job}/evidence").json()
    assert [one["chunk"] for one in evidence["decisions"]] == [0, 1]
    assert all("secret_note" not in one for one in evidence["decisions"])
    one = anna.get(f"{JOBS}/{job}/evidence?chunk=1").json()
    assert [claim["finding"] for claim in one["claims"]] == ["rejected"]


def test_an_appeal_says_by_when_it_is_ruled_on(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "contested")
    judged(site, job)
    answer = anna.post(f"{JOBS}/{job}/appeal", json={"chunk": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["bond"] == 16_500 and answer.json()["rule_by"] > 0
    assert anna.get(f"{JOBS}/{job}").json()["chunks"][1]["appeal"] == "open"


def test_a_chunk_may_be_executed_again_before_anything_is_staked(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "doubted")
    judged(site, job)
    wanted = {"chunk": 1, "replay": True}
    first = anna.post(f"{JOBS}/{job}/appeal", json=wanted).json()
    assert (first["replay"], first["bond"]) == ("running", 0)
    assert anna.get(f"{JOBS}/{job}").json()["chunks"][1]["appeal"] == ""
    assert anna.post(f"{JOBS}/{job}/appeal", json=wanted).json()["bond"] == 16_500


def test_an_appeal_may_name_who_speaks_for_which_trace(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "spoken")
    judged(site, job)
    named = {"rival": "ab" * 32, "speaker": "12D3KooWExample"}
    claim = anna.post(f"{JOBS}/{job}/appeal", json={"chunk": 1, **named}).json()
    assert {name: claim[name] for name in named} == named


def test_what_is_final_cannot_be_appealed(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "final")
    judged(site, job)
    problem = anna.post(f"{JOBS}/{job}/appeal", json={"chunk": 0})
    assert (problem.status_code, problem.json()["code"]) == (409, "not_held") and problem.json()["fix"]


def test_appeals_need_the_scope_for_money(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "scoped")
    with site.client(site.token("anna", "read", "jobs")) as poor:
        answer = poor.post(f"{JOBS}/{job}/appeal", json={"chunk": 1})
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_what_was_opened_comes_as_one_file(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "opened")
    early = anna.get(f"{JOBS}/{job}/units")
    assert (early.status_code, early.json()["code"]) == (409, "not_ready")
    judged(site, job)
    answer = anna.get(f"{JOBS}/{job}/units")
    assert answer.content == b"\0\0\0\1units"
    assert answer.headers["content-type"] == "application/vnd.shoal.units"
    assert f'filename="{job}.units"' in answer.headers["content-disposition"]


def test_other_accounts_see_nothing(anna: httpx.Client, boris: httpx.Client) -> None:
    job = submit(anna, "private")
    assert boris.get(f"{JOBS}/{job}/evidence").status_code == 404
    assert boris.get(f"{JOBS}/{job}/units").status_code == 404
    assert boris.post(f"{JOBS}/{job}/appeal", json={"chunk": 0}).status_code == 404


def test_the_page_tells_verdicts_in_words(site: Site, anna: httpx.Client) -> None:
    job = submit(anna, "shown")
    judged(site, job)
    page = site.client()
    page.post("/signin", data={"token": site.token()})
    text = re.sub(r"\s+", " ", page.get(f"/jobs/{job}").text)
    assert "What was found" in text and "The change is not the one of the replay" in text
    assert "0.410" in text and "update_differs" in text and "cdcdcdcdcdcd" in text
    assert "Everybody got the same bytes" not in text, "an accepted, final result needs no words"
    assert "At least 10 % of results are executed again by 1 auditor" in text
