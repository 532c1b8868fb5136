"""The line to the node: requests side by side, deadlines, a node that goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.node_client import FRAME_BYTES_MAX, NodeClient, NodeError, read_frame
from protocol.errors import LocalError, Unavailable
from tests.gateway.served import PATIENCE_S

if TYPE_CHECKING:
    from tests.gateway.served import Site


def test_requests_run_side_by_side_and_late_ones_are_given_up(make_site: Callable[..., Site]) -> None:
    with make_site() as site:
        site.act(lambda network: network.silent.add("market.queue"))

        async def ask() -> None:
            async with NodeClient(site.config.socket, PATIENCE_S, PATIENCE_S) as node:
                other = asyncio.create_task(node.call("market.queue"))
                assert (await node.call("node.status"))["network"] == "testnet"
                assert not other.done()
                other.cancel()
                with pytest.raises(Unavailable) as timeout:
                    await node.call("market.queue", deadline_s=0.3)
                assert timeout.value.code == "node_timeout"
                with pytest.raises(NodeError) as refused:
                    await node.call("job.status", {"job": "job_x"})
                assert (refused.value.code, refused.value.fault) == ("unknown_job", "caller")

        asyncio.run(ask())


def test_the_gateway_outlives_its_node(make_site: Callable[..., Site]) -> None:
    with make_site(node_grace_s=0.3) as site, site.client(site.token()) as client:
        assert client.get("/marketplace/cluster").status_code == 200
        site.do(site.control.stop)
        gone = client.get("/marketplace/cluster")
        assert (gone.status_code, gone.json()["code"]) == (503, "node_unreachable")
        assert gone.json()["retryable"] and gone.headers["retry-after"] and "--socket" in gone.json()["fix"]
        not_ready = client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["reasons"][0]["code"]) == (503, "node_unreachable")
        assert client.get("/healthz").status_code == 200
        page = client.get("/").text
        assert "The node does not answer" in page
        site.do(site.control.start)
        site.do(site.gateway.node._connected.wait)
        assert client.get("/marketplace/cluster").status_code == 200
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}


def test_a_node_that_was_never_there(tmp_path: Path) -> None:
    async def ask() -> None:
        async with NodeClient(tmp_path / "none.sock", 5, 0.2) as node:
            with pytest.raises(Unavailable) as missing:
                await node.call("node.status")
            assert missing.value.code == "node_unreachable" and missing.value.fix
            with pytest.raises(Unavailable):
                await anext(node.stream("node.events"))

    asyncio.run(ask())


@given(st.binary(max_size=64))
def test_bytes_never_crash_the_reader(data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        with pytest.raises((LocalError, asyncio.IncompleteReadError)):
            while True:
                await read_frame(reader)

    asyncio.run(read())


def test_a_frame_over_the_limit_is_not_read() -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        with pytest.raises(LocalError) as over:
            await read_frame(reader)
        assert str(FRAME_BYTES_MAX) in over.value.detail

    asyncio.run(read())
