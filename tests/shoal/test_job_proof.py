"""`shoal job appeal --replay`: the chunk is executed before anything is staked, by the gateway's node or an own one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal import exits
from shoal.cli import main
from shoal.commands import job_proof
from tests.gateway.served import Site
from tests.gateway.test_jobs import submit
from tests.gateway.test_proofs import judged


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def job(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job whose chunk 1 may be contested; questions follow each other at once."""
    monkeypatch.setattr(job_proof, "LOOK_S", 0.0)
    monkeypatch.setenv("SHOAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHOAL_GATEWAY", site.url)
    monkeypatch.setenv("SHOAL_TOKEN", site.token("anna"))
    with site.client(site.token("anna")) as client:
        job = submit(client, "contested")
    judged(site, job)
    return job


def is_open(site: Site, job: str) -> bool:
    """Whether an appeal about chunk 1 is open."""

    def look(network: object) -> bool:
        chunks = site.network.jobs[job].status["chunks"]
        assert isinstance(chunks, list)
        return bool(chunks[1].get("appeal") == "open")

    return site.act(look)


def test_the_gateway_s_node_is_asked_until_it_has_ended(
    site: Site, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", "appeal", job, "1", "--replay", "-y"]) == exits.OK
    told = capsys.readouterr()
    assert "nothing is staked yet" in told.out + told.err and "0.0165" in told.out
    assert is_open(site, job)


def test_an_own_node_s_trace_and_peer_are_named(site: Site, job: str, capsys: pytest.CaptureFixture[str]) -> None:
    site.network.replays = ["running", "running", "differs"]
    words = ["job", "appeal", job, "1", "--replay", "--at", str(site.folder), "-y", "--json"]
    assert main(words) == exits.OK
    out = capsys.readouterr().out
    assert "cd" * 32 in out and "12D3KooWOwn" in out
    assert is_open(site, job) and site.network.replays == []


def test_what_was_opened_is_saved_from_the_gateway_or_an_own_node(
    site: Site, job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("--data", str(site.folder))):
        target = tmp_path / f"{len(more)}.units"
        assert main(["job", "evidence", job, "--save", str(target), *more]) == exits.OK
        assert target.read_bytes() == b"\0\0\0\1units" and str(target) in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.units*")) == ["0.units", "2.units"]


@pytest.mark.parametrize("said", ["agrees", "failed"])
def test_nothing_is_staked_where_it_agrees_or_cannot(
    said: str, site: Site, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site.network.replays = [said]
    assert main(["job", "appeal", job, "1", "--replay", "--at", str(site.folder), "-y"]) != exits.OK
    told = capsys.readouterr()
    assert ("replay_agrees" if said == "agrees" else "not_replayed") in told.out + told.err
    assert not is_open(site, job)
