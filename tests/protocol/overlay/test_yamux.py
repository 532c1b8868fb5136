"""Two sessions over a pipe that splits bytes anywhere, and one session against a peer that breaks the rules."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.errors import RemoteViolation, Unavailable
from protocol.overlay import yamux_limits as limits
from protocol.overlay.yamux import Session
from protocol.overlay.yamux_events import Answered, Gone, Left, Opened, Readable
from protocol.overlay.yamux_frames import FRAME_BYTES, Flag, Kind, Reason, header
from protocol.overlay.yamux_stream import Phase, Stream
from protocol.units import SECOND, Micros, PeerId

PEER = PeerId(b"p" * 32)
START = Micros(0)
WINDOW = limits.WINDOW_START_BYTES


class End:
    """A session, its streams by number, and what its user knows."""

    def __init__(self, *, is_initiator: bool) -> None:
        self.session = Session(PEER, START, is_initiator=is_initiator)
        self.streams: dict[int, Stream] = {}
        self.sent: dict[int, bytearray] = {}
        self.got: dict[int, bytearray] = {}
        self.wire = bytearray()

    def hear(self, data: bytes) -> None:
        """Take the other end's bytes."""
        for event in self.session.receive(data, START):
            if isinstance(event, Opened):
                self.add(event.stream)

    def add(self, stream: Stream) -> None:
        """A stream to use."""
        self.streams[stream.id] = stream
        self.sent[stream.id] = bytearray()
        self.got[stream.id] = bytearray()


def settle(ends: tuple[End, End], split: int = 1 << 20) -> None:
    """Move everything until neither end has more to say."""
    while any(end.session.outbox or end.wire for end in ends):
        for end, other in (ends, ends[::-1]):
            end.wire += end.session.data_to_send(1 << 20)
            while end.wire:
                other.hear(bytes(end.wire[:split]))
                del end.wire[:split]


class TwoSessions(RuleBasedStateMachine):
    """The model is a queue of bytes per stream and direction: what arrives is a prefix of what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = (End(is_initiator=True), End(is_initiator=False))
        self.dice = random.Random(0)

    sides = st.integers(0, 1)

    def choose(self, side: int, pick: int) -> tuple[End, Stream] | None:
        end = self.ends[side]
        numbers = sorted(end.streams)
        return (end, end.streams[numbers[pick % len(numbers)]]) if numbers else None

    @rule(side=sides)
    def opens(self, side: int) -> None:
        end = self.ends[side]
        if not end.session.places.is_full:
            end.add(end.session.open())

    @rule(side=sides, pick=st.integers(0, 99), size=st.sampled_from([0, 1, 100, 70_000, 300_000, 700_000]))
    def writes(self, side: int, pick: int, size: int) -> None:
        if (chosen := self.choose(side, pick)) is not None:
            end, stream = chosen
            data = self.dice.randbytes(size)
            taken = end.session.write(stream, memoryview(data))
            assert taken <= size
            if taken < size and stream.phase is Phase.OPEN and not stream.has_finished:
                assert not end.session.outbox.has_room(stream)
            end.sent[stream.id] += data[:taken]

    @rule(side=sides, pick=st.integers(0, 99), size=st.sampled_from([0, 1, 5, 5_000, 100_000, 1 << 30]))
    def reads(self, side: int, pick: int, size: int) -> None:
        if (chosen := self.choose(side, pick)) is not None:
            end, stream = chosen
            was = stream.buffered
            data = end.session.read(stream, size)
            assert len(data) == min(size, was)
            end.got[stream.id] += data

    @rule(side=sides, pick=st.integers(0, 99))
    def finishes(self, side: int, pick: int) -> None:
        if (chosen := self.choose(side, pick)) is not None:
            chosen[0].session.finish(chosen[1])

    @rule(side=sides, pick=st.integers(0, 99))
    def releases(self, side: int, pick: int) -> None:
        if (chosen := self.choose(side, pick)) is not None:
            chosen[0].session.release(chosen[1])

    @rule(side=sides, pick=st.integers(0, 99), luck=st.integers(0, 3))
    def resets(self, side: int, pick: int, luck: int) -> None:
        if luck == 0 and (chosen := self.choose(side, pick)) is not None:
            chosen[0].session.reset(chosen[1])

    @rule(side=sides, luck=st.integers(0, 3))
    def pings(self, side: int, luck: int) -> None:
        if luck == 0:
            self.ends[side].session.ping(START)

    @rule(side=sides, limit=st.sampled_from([1, 100_000, 1 << 20]), share=st.integers(1, 100))
    def travels(self, side: int, limit: int, share: int) -> None:
        end, other = self.ends[side], self.ends[1 - side]
        end.wire += end.session.data_to_send(limit)
        left = max(1, len(end.wire) * share // 100) if end.wire else 0
        while left:
            size = min(left, self.dice.choice([1, 11, 12, 13, 4_000, 65_519, 1 << 20]))
            other.hear(bytes(end.wire[:size]))
            del end.wire[:size]
            left -= size

    @invariant()
    def what_arrives_was_written(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            for number, got in end.got.items():
                assert other.sent.get(number, bytearray()).startswith(got)

    @invariant()
    def books_balance(self) -> None:
        for end in self.ends:
            places = end.session.places
            held = places.open_streams()
            assert places.buffered <= limits.BUFFER_BYTES_MAX
            assert all(s.credit_in + s.buffered + s.consumed == s.window for s in held)
            assert places.grown == sum(s.window - WINDOW for s in held) <= limits.GROWTH_BYTES_MAX
            assert end.session.outbox.waiting == sum(s.waiting for s in held)
            assert places.inbound == sum(not s.is_ours and not places.is_lingering(s) for s in held)
            assert places.outbound == sum(s.is_ours and not places.is_lingering(s) for s in held)

    def teardown(self) -> None:
        """In the end all that was written on streams that live arrives."""
        settle(self.ends)
        for end, other in (self.ends, self.ends[::-1]):
            for number, stream in end.streams.items():
                end.got[number] += end.session.read(stream, 1 << 30)
                twin = other.streams.get(number, stream)
                if Phase.RESET not in (stream.phase, twin.phase):
                    assert end.got[number] == other.sent[number]
                    assert stream.has_ended == twin.has_finished


TwoSessions.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTwoSessions = TwoSessions.TestCase


def pair() -> tuple[End, End]:
    return End(is_initiator=True), End(is_initiator=False)


def frame(kind: Kind, flags: int, number: int, body: bytes = b"", value: int | None = None) -> bytes:
    return header(kind, flags, number, len(body) if value is None else value) + body


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_any_bytes_are_events_or_a_violation(pieces: list[bytes]) -> None:
    end = End(is_initiator=False)
    for piece in pieces:
        try:
            end.hear(piece)
        except RemoteViolation as violation:
            assert violation.code.startswith("mux_")
            assert end.session.is_over
            assert end.session.data_to_send(1 << 20).endswith(header(Kind.LEAVE, 0, 0, Reason.PROTOCOL))
            return


FIELDS = st.tuples(
    st.sampled_from([0, 1, 2, 3, 3, 4]),
    st.integers(0, 15),
    st.integers(0, 9),
    st.sampled_from([0, 0, 1, 7, 300, 2**32 - 1]),
)


@settings(max_examples=300)
@given(st.lists(FIELDS, max_size=60), st.booleans(), st.integers(1, 40))
def test_well_formed_nonsense(frames: list[tuple[int, int, int, int]], is_initiator: bool, split: int) -> None:
    end = End(is_initiator=is_initiator)
    mine = end.session.open()
    data = b"".join(
        bytes([0, kind])
        + flags.to_bytes(2, "big")
        + number.to_bytes(4, "big")
        + value.to_bytes(4, "big")
        + bytes(value if kind == 0 and value < 1_000 else 0)
        for kind, flags, number, value in frames
    )
    try:
        for at in range(0, len(data), split):
            end.hear(data[at : at + split])
            end.session.write(mine, memoryview(b"x" * 100))
            assert end.session.places.buffered <= limits.BUFFER_BYTES_MAX
            assert len(end.session.outbox.control) <= limits.CONTROL_BYTES_MAX + 100
            end.session.data_to_send(1 << 20)
    except RemoteViolation:
        assert end.session.is_over


BROKEN = [
    ("mux_version", b"\1" + bytes(11)),
    ("mux_kind", b"\0\7" + bytes(10)),
    ("mux_window", frame(Kind.DATA, Flag.OPEN, 1, value=WINDOW + 1)),
    ("mux_window", frame(Kind.DATA, Flag.OPEN, 1, bytes(WINDOW)) + frame(Kind.DATA, 0, 1, b"x")),
    ("mux_window", frame(Kind.DATA, Flag.OPEN | Flag.FINISH, 1, b"x") + frame(Kind.DATA, 0, 1, b"x")),
    ("mux_credit", frame(Kind.CREDIT, Flag.OPEN, 1, value=2**32 - 1)),
    ("mux_stream_number", frame(Kind.CREDIT, Flag.OPEN, 2)),
    ("mux_stream_number", frame(Kind.CREDIT, Flag.OPEN, 0)),
    ("mux_stream_number", frame(Kind.CREDIT, Flag.OPEN, 1) * 2),
    ("mux_unknown_stream", frame(Kind.DATA, 0, 1, b"x")),
    ("mux_unknown_stream", frame(Kind.CREDIT, 0, 2, value=1)),
    ("mux_unread", frame(Kind.CREDIT, Flag.OPEN, 1) + frame(Kind.PING, Flag.OPEN, 0) * 60),
    ("mux_flood", frame(Kind.PING, Flag.OPEN, 0) * 65),
    ("mux_flood", frame(Kind.CREDIT, Flag.OPEN, 1) + frame(Kind.DATA, 0, 1) * 8_193),
    ("mux_flood", b"".join(frame(Kind.CREDIT, Flag.OPEN | Flag.RESET, n) for n in range(1, 4_200, 2))),
    ("mux_flood", b"".join(frame(Kind.CREDIT, Flag.OPEN, n) for n in range(1, 4_400, 2))),
]


@pytest.mark.parametrize(("code", "data"), BROKEN, ids=[f"{code}-{at}" for at, (code, _) in enumerate(BROKEN)])
def test_what_a_peer_may_not(code: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if code == "mux_unread":
        monkeypatch.setattr(limits, "CONTROL_BYTES_MAX", 700)
    end = End(is_initiator=False)
    with pytest.raises(RemoteViolation) as caught:
        end.hear(data)
    assert caught.value.code == code
    assert caught.value.peer == PEER
    assert end.session.receive(b"more", START) == end.session.events() or end.session.is_over
    assert all(stream.phase is Phase.RESET for stream in end.streams.values())


def test_bytes_in_the_worst_case_stay_in_the_budget() -> None:
    end = End(is_initiator=False)
    for number in range(1, 2 * limits.INBOUND_MAX + 100, 2):
        end.hear(frame(Kind.DATA, Flag.OPEN, number, bytes(WINDOW)))
    assert len(end.streams) == limits.INBOUND_MAX
    assert end.session.places.buffered == limits.INBOUND_MAX * WINDOW <= limits.BUFFER_BYTES_MAX
    refused = header(Kind.CREDIT, Flag.RESET, 2 * limits.INBOUND_MAX + 1, 0)
    assert refused in end.session.data_to_send(1 << 20)


def test_short_pieces_cost_their_bytes() -> None:
    end = End(is_initiator=False)
    end.hear(frame(Kind.DATA, Flag.OPEN, 1, b"a") + frame(Kind.DATA, 0, 1, b"b") * 100_000)
    stream = end.streams[1]
    assert len(stream._pieces) == 2  # two blocks of 65536, not 100001 objects
    assert end.session.read(stream, 1 << 20) == b"a" + b"b" * 100_000


def test_late_data_is_let_in_as_far_as_the_window_went() -> None:
    end = End(is_initiator=False)
    end.hear(frame(Kind.CREDIT, Flag.OPEN, 1))
    end.session.reset(end.streams[1])
    end.hear(frame(Kind.DATA, 0, 1, bytes(WINDOW)))
    assert end.session.places.buffered == 0
    with pytest.raises(RemoteViolation, match="1 bytes for stream 1, which ended"):
        end.hear(frame(Kind.DATA, 0, 1, b"x"))


def test_a_place_is_free_when_what_came_was_read() -> None:
    end = End(is_initiator=False)
    end.hear(frame(Kind.DATA, Flag.OPEN | Flag.FINISH, 1, b"question"))
    stream = end.streams[1]
    end.session.finish(stream)
    assert end.session.places.inbound == 1
    assert end.session.read(stream, 99) == b"question"
    assert end.session.places.inbound == 0
    assert end.session.events() == [Gone(stream)]


def test_streams_that_a_peer_never_finishes_are_pushed_out() -> None:
    end = End(is_initiator=True)
    streams = [end.session.open() for _ in range(limits.LINGERING_MAX + 1)]
    for stream in streams:
        end.session.release(stream)
    assert [stream.phase is Phase.RESET for stream in streams] == [True] + [False] * limits.LINGERING_MAX
    assert end.session.places.outbound == 0


def test_our_places_are_limited() -> None:
    end = End(is_initiator=True)
    for _ in range(limits.OUTBOUND_MAX):
        end.session.open()
    with pytest.raises(Unavailable, match="96 streams to this peer are open"):
        end.session.open()


def test_streams_take_turns() -> None:
    ends = pair()
    bulk, beat = ends[0].session.open(), ends[0].session.open()
    ends[0].session.write(bulk, memoryview(bytes(200_000)))
    ends[0].session.write(beat, memoryview(b"beat"))
    ends[0].session.data_to_send(0)
    first = ends[0].session.data_to_send(FRAME_BYTES + 1)
    assert first.endswith(b"beat")


def test_a_heartbeat_gets_in_line_when_the_queues_are_full() -> None:
    end = End(is_initiator=True)
    bulk = [end.session.open() for _ in range(20)]
    taken = sum(end.session.write(stream, memoryview(bytes(WINDOW))) for stream in bulk)
    assert limits.QUEUES_BYTES_MAX <= taken <= limits.QUEUES_BYTES_MAX + 20 * limits.SMALL_BYTES
    assert end.session.write(end.session.open(), memoryview(b"beat")) == 4


def test_windows_grow_for_a_reader_that_keeps_up_and_only_from_the_pool() -> None:
    ends = pair()
    streams = [ends[0].session.open() for _ in range(3)]
    settle(ends)
    for _ in range(40):
        for stream in streams:
            ends[0].session.write(stream, memoryview(bytes(WINDOW)))
        settle(ends)
        for stream in ends[1].streams.values():
            ends[1].session.read(stream, 1 << 30)
        settle(ends)
    widths = sorted(stream.window for stream in ends[1].streams.values())
    assert widths[-1] == limits.WINDOW_MAX_BYTES
    assert sum(widths) == 3 * WINDOW + limits.GROWTH_BYTES_MAX
    assert ends[1].session.places.grown == limits.GROWTH_BYTES_MAX


def test_ping_tells_the_round_trip_and_silence_ends() -> None:
    ends = pair()
    session = ends[0].session
    session.tick(limits.KEEPALIVE)
    ping = session.data_to_send(1)
    assert ping == header(Kind.PING, Flag.OPEN, 0, 1)
    ends[1].hear(ping)
    answered = Micros(limits.KEEPALIVE + 1_234)
    assert session.receive(ends[1].session.data_to_send(1), answered) == [Answered(Micros(1_234))]
    assert session.pulse.next_tick == 2 * limits.KEEPALIVE
    session.tick(session.pulse.next_tick)
    assert session.data_to_send(1) == header(Kind.PING, Flag.OPEN, 0, 2)
    with pytest.raises(Unavailable, match="no sign of life for 20 s"):
        session.tick(Micros(session.pulse.next_tick + SECOND))


def test_any_byte_is_a_sign_of_life() -> None:
    ends = pair()
    session = ends[0].session
    session.tick(limits.KEEPALIVE)
    session.receive(header(Kind.PING, Flag.OPEN, 0, 9), Micros(limits.KEEPALIVE + 1))
    session.tick(session.pulse.next_tick)
    assert session.pulse.next_tick == 2 * limits.KEEPALIVE
    assert not session.is_over


def test_leaving_resets_streams_and_keeps_what_came() -> None:
    ends = pair()
    stream = ends[0].session.open()
    ends[0].session.write(stream, memoryview(b"last words"))
    settle(ends)
    ends[0].session.leave()
    twin = ends[1].streams[stream.id]
    assert ends[1].session.receive(ends[0].session.data_to_send(1), START) == [Gone(twin), Left(Reason.NORMAL)]
    assert ends[1].session.read(twin, 99) == b"last words"
    assert stream.phase is twin.phase is Phase.RESET
    with pytest.raises(Unavailable):
        ends[1].session.open()


def test_half_close() -> None:
    ends = pair()
    stream = ends[0].session.open()
    ends[0].session.write(stream, memoryview(b"q"))
    ends[0].session.finish(stream)
    assert ends[0].session.write(stream, memoryview(b"more")) == 0
    data = ends[0].session.data_to_send(1 << 20)
    events = ends[1].session.receive(data, START)
    twin = events[0].stream if isinstance(events[0], Opened) else None
    assert twin is not None
    assert events == [Opened(twin), Readable(twin), Readable(twin)]
    assert twin.has_ended
    ends[1].session.write(twin, memoryview(b"a"))
    ends[1].session.finish(twin)
    assert ends[1].session.read(twin, 9) == b"q"
    ends[0].session.receive(ends[1].session.data_to_send(1 << 20), START)
    assert ends[0].session.read(stream, 9) == b"a"
    assert stream.phase is Phase.ENDED
