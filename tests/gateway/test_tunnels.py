"""WebSockets into chunks: bytes as they are, both ends of a stream, and problems instead of a handshake."""

from __future__ import annotations

import httpx
import pytest
import trio

from gateway import tunnels
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.overlay.tunnel_frames import Frame, FrameCutter, Kind
from protocol.units import PeerId
from shoal.tunnel_line import GatewayCaller, Target
from tests.gateway.network_model import plain_spec
from tests.gateway.served import Site
from tests.node.waiting import SECONDS


@pytest.fixture
def job(anna: httpx.Client) -> str:
    answer = anna.post("/v1/marketplace/jobs", json={"spec": plain_spec()})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job"])


def caller(site: Site, name: str = "anna", *scopes: str) -> GatewayCaller:
    return GatewayCaller(site.url, site.token(name, *scopes))


async def refusal(line: GatewayCaller, target: Target) -> ShoalError:
    with pytest.raises(ShoalError) as caught:
        async with line.opened(target):
            raise AssertionError("it is open")
    return caught.value


async def test_bytes_come_back_as_they_were_sent(site: Site, job: str) -> None:
    content = bytes(range(256)) * 8_192
    cutter, found = FrameCutter(PeerId(bytes(32))), b""
    async with caller(site).opened(Target(job, 0, 8888)) as line, trio.open_nursery() as nursery:

        async def send() -> None:
            for start in range(0, len(content), 32_768):
                await line.send(Frame(Kind.DATA, content[start : start + 32_768]).pack())
            await line.send(Frame(Kind.END).pack())

        nursery.start_soon(send)
        with trio.fail_after(SECONDS):
            is_over = False
            while not is_over:
                data = await line.receive()
                assert data, "the line ended before the other side did"
                for frame in cutter.feed(data):
                    found += frame.payload
                    is_over = frame.kind is Kind.END
    assert found == content


async def test_a_port_that_the_node_refuses_is_a_problem_before_the_handshake(site: Site, job: str) -> None:
    error = await refusal(caller(site), Target(job, 3, 22))
    assert isinstance(error, Refused)
    assert (error.code, error.fix, error.numbers) == ("port_not_declared", "Do.", {"port": 1})
    assert site.control.tunnels[-1] == {"job": job, "chunk": 3, "port": 22}


async def test_a_shell_is_asked_for_with_its_terminal(site: Site, job: str) -> None:
    await refusal(caller(site), Target(job, 1, 0, "ls -l 'ü'", False, 33, 77, "dumb"))
    shell = {"command": "ls -l 'ü'", "has_terminal": False, "rows": 33, "columns": 77, "term": "dumb"}
    assert site.control.tunnels[-1] == {"job": job, "chunk": 1, **shell}


async def test_only_the_account_of_the_job_with_its_scope_is_let_in(site: Site, job: str) -> None:
    before = len(site.control.tunnels)
    target = Target(job, 0, 8888)
    assert (await refusal(caller(site, "boris"), target)).code == "unknown_job"
    assert (await refusal(caller(site, "anna", "read"), target)).code == "scope_missing"
    assert (await refusal(GatewayCaller(site.url, "shoal_wrong"), target)).code == "token_invalid"
    assert (await refusal(GatewayCaller(site.url, ""), target)).code == "token_missing"
    assert (await refusal(caller(site), Target("job_x", 0, 8888))).code == "unknown_job"
    assert len(site.control.tunnels) == before


async def test_an_account_has_so_many_at_a_time(site: Site, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "TUNNELS_PER_ACCOUNT", 1)
    async with caller(site).opened(Target(job, 0, 8888)) as line:
        error = await refusal(caller(site), Target(job, 0, 8888))
        assert isinstance(error, Unavailable) and error.code == "tunnel_limit"
        await line.send(Frame(Kind.END).pack())
        assert await line.receive()
    with trio.fail_after(SECONDS):
        while True:
            try:
                async with caller(site).opened(Target(job, 0, 8888)):
                    break
            except Unavailable:
                await trio.lowlevel.checkpoint()


async def test_without_a_gateway_there_is_a_sentence() -> None:
    error = await refusal(GatewayCaller("http://127.0.0.1:9", "t"), Target("job_1", 0, 80))
    assert isinstance(error, Unavailable) and error.code == "gateway_unreachable"
