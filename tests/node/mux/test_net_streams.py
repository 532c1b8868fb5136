"""libp2p's wrapper around our streams takes no lock, and ends as it always did."""

from __future__ import annotations

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.network.stream.net_stream import NetStream, StreamState

from tests.node.mux.muxed_hosts import read_exactly, two_hosts
from tests.node.waiting import SECONDS


def state(stream: INetStream) -> StreamState:
    """What the wrapper thinks."""
    assert isinstance(stream, NetStream)
    return stream._state


async def test_a_held_lock_is_in_nobody_s_way() -> None:
    async with two_hosts() as two:
        stream = await two.stream()
        assert isinstance(stream, NetStream)
        async with stream._state_lock:
            with trio.fail_after(SECONDS):
                await stream.write(b"x")
                assert await stream.read(1) == b"x"


async def test_the_stock_muxer_s_streams_go_the_old_way() -> None:
    async with two_hosts(stock=(True, True)) as two:
        stream = await two.stream()
        assert isinstance(stream, NetStream)
        async with stream._state_lock:
            with pytest.raises(RuntimeError, match="already held"):
                await stream.write(b"x")
        await stream.write(b"y")
        assert await read_exactly(stream, 1) == b"y"


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
async def test_states_are_the_same(stock: bool) -> None:
    async with two_hosts(stock=(stock, stock)) as two:
        stream = await two.stream()
        assert isinstance(stream, NetStream)
        await stream.write(b"x")
        assert await read_exactly(stream, 1) == b"x"
        await stream.close_write()
        with pytest.raises(StreamEOF):
            await stream.read(1)
        assert state(stream) is StreamState.CLOSE_BOTH
        with pytest.raises(StreamClosed):
            await stream.write(b"x")
        other = await two.stream()
        await other.reset()
        with pytest.raises(StreamReset):
            await other.write(b"x")
        assert state(other) is StreamState.RESET
