"""What a stream promises to its users, one call at a time."""

from __future__ import annotations

import pytest
import trio
from libp2p.stream_muxer.exceptions import MuxedStreamEOF

from protocol.errors import LocalError
from tests.node.mux.muxed_hosts import muxed, two_hosts
from tests.node.waiting import SECONDS


async def test_reading_nothing_and_everything() -> None:
    async with two_hosts() as two:
        stream = muxed(await two.stream())
        assert await stream.read(0) == b""
        await stream.write(b"")
        await stream.write(bytearray(b"abc"))
        await stream.write(memoryview(b"def"))
        got = b""
        with trio.fail_after(SECONDS):
            while len(got) < 6:
                got += await stream.read(-1)
        assert got == b"abcdef"
        async with stream:
            assert stream.get_remote_address() is not None
        with pytest.raises(MuxedStreamEOF), trio.fail_after(SECONDS):
            await stream.read()
        assert stream.is_closed


async def test_a_buffer_may_change_after_the_write() -> None:
    async with two_hosts() as two:
        stream = muxed(await two.stream())
        buffer = bytearray(300_000)
        with trio.fail_after(SECONDS):
            await stream.write(buffer)
            buffer[:] = b"x" * len(buffer)
            got = b""
            while len(got) < len(buffer):
                got += await stream.read(65_536)
        assert got == bytes(300_000)


async def test_two_readers_share() -> None:
    async with two_hosts() as two:
        stream = muxed(await two.stream())
        got: list[bytes] = []

        async def read() -> None:
            got.append(await stream.read(1))

        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(read)
                await stream.write(b"ab")
        assert sorted(got) == [b"a", b"b"]


async def test_deadlines_are_trio_s() -> None:
    async with two_hosts() as two:
        with pytest.raises(LocalError, match="keeps no deadline"):
            muxed(await two.stream()).set_deadline(1)
