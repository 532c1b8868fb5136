"""`shoal port-forward` and `shoal ssh`: what is said on the command line, and what becomes of a line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import memory_stream_pair

from protocol.errors import Refused, Unavailable
from protocol.overlay.tunnel_frames import Frame, FrameCutter, Kind, fault
from protocol.units import PeerId
from shoal.cli import main
from shoal.commands.tunnel import _chunk
from shoal.forwarding import Forward, Forwarder, forward_of, joined
from shoal.tunnel_line import Line, Target


class Scripted:
    """A line that answers what it is told with what it was given."""

    def __init__(self, *frames: Frame) -> None:
        self.answers = [frame.pack() for frame in frames]
        self.heard: list[Frame] = []
        self._cutter = FrameCutter(PeerId(bytes(32)))
        self._ended = trio.Event()

    async def send(self, data: bytes) -> None:
        self.heard += self._cutter.feed(data)
        if self.heard[-1].kind is Kind.END:
            self._ended.set()

    async def receive(self) -> bytes:
        if not self.answers:
            await self._ended.wait()
            return b""
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("text", "found"),
    [("8888", Forward(8888, 8888)), ("8080:8888", Forward(8080, 8888)), ("0:22", Forward(0, 22))],
)
def test_ports_are_read(text: str, found: Forward) -> None:
    assert forward_of(text) == found


@pytest.mark.parametrize("text", ["", "x", "0", "1:0", "65536", "1:2:3", "-1", "٣", "8080:"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        forward_of(text)
    assert caught.value.code == "usage" and "8080:8888" in caught.value.fix


def test_the_chunk_is_named_or_clear() -> None:
    assert _chunk("job", "", {0: "waiting"}) == 0
    assert _chunk("job", "", {0: "accepted", 1: "running"}) == 1
    assert _chunk("job", "1", {0: "running", 1: "running"}) == 1
    for number, states in (("", {0: "running", 1: "running"}), ("2", {0: "running"}), ("x", {0: "running"})):
        with pytest.raises(Refused):
            _chunk("job", number, states)


def test_usage_faults_are_told_before_anybody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["port-forward", "job_1", "web"]) == 2
    assert main(["port-forward", "--stdio", "job_1", "22", "80"]) == 2
    assert "[usage]" in capsys.readouterr().err


async def test_both_directions_are_copied_to_their_ends() -> None:
    near, far = memory_stream_pair()
    line = Scripted(Frame(Kind.DATA, b"from "), Frame(Kind.DATA, b"there"), Frame(Kind.END))
    await far.send_all(b"from here")
    await far.send_eof()
    await joined(near, line)
    assert await far.receive_some() == b"from there"
    assert b"".join(frame.payload for frame in line.heard) == b"from here" and line.heard[-1].kind is Kind.END


async def test_a_reason_from_the_far_side_is_raised() -> None:
    near, _ = memory_stream_pair()
    ended = fault(Unavailable("the chunk has ended", code="lease_ended", fix="Look."))
    with pytest.raises(Unavailable, match="the chunk has ended") as caught:
        await joined(near, Scripted(ended))
    assert (caught.value.code, caught.value.fix) == ("lease_ended", "Look.")


async def test_an_end_without_an_end_is_a_loss() -> None:
    near, far = memory_stream_pair()
    await far.send_eof()
    with pytest.raises(Unavailable, match="broke off"):
        await joined(near, Scripted(Frame(Kind.DATA, b"half")))


async def test_a_connection_waits_for_a_chunk_that_moves(autojump_clock: trio.testing.MockClock) -> None:
    class Moving:
        """Unreachable twice, then there."""

        asked = 0

        @asynccontextmanager
        async def opened(self, target: Target) -> AsyncIterator[Line]:
            self.asked += 1
            if self.asked < 3:
                raise Unavailable("between two providers", code="chunk_not_running")
            yield Scripted(Frame(Kind.DATA, b"found"), Frame(Kind.END))

    near, far = memory_stream_pair()
    await far.send_eof()
    caller = Moving()
    await Forwarder(caller, Target("job", 0), lambda text: None).once(near, 80)
    assert caller.asked == 3 and await far.receive_some() == b"found"


async def test_a_connection_does_not_wait_for_what_never_comes(autojump_clock: trio.testing.MockClock) -> None:
    class Never:
        """Always between two providers, or with nothing that listens."""

        def __init__(self, code: str) -> None:
            self.code, self.asked = code, 0

        @asynccontextmanager
        async def opened(self, target: Target) -> AsyncIterator[Line]:
            self.asked += 1
            if self.code:
                raise Unavailable("no", code=self.code)
            yield Scripted()

    near, _ = memory_stream_pair()
    for code, is_patient in (("chunk_not_running", True), ("nothing_listens", False)):
        caller = Never(code)
        with pytest.raises(Unavailable):
            await Forwarder(caller, Target("job", 0), lambda text: None).once(near, 80)
        assert (caller.asked > 10) == is_patient
