"""A session over connections that break anywhere: everything arrives once, in order, or is counted as given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.resume import ACK_EVERY, KEPT_BYTES, KEPT_ITEMS, Heard, Outbox, resumed

SESSION = b"s" * 16


class Pair:
    """A sender, a receiver, and a stream between them that can break at any message."""

    def __init__(self, items_max: int = 100) -> None:
        self.out = Outbox(SESSION, items_max)
        self.heard: Heard | None = None
        self.flying: list[tuple[int, bytes]] = []
        self.arrived: list[bytes] = []

    def reconnect(self) -> None:
        self.flying.clear()
        self.out.rewind()
        self.heard, _ = resumed(self.heard, SESSION, self.out.first)

    def write(self, size: int) -> None:
        self.flying += [(item.number, item.frame) for item in self.out.take(size)]

    def read(self, count: int) -> None:
        for number, frame in self.flying[:count]:
            assert self.heard is not None
            if self.heard.take(number):
                self.arrived.append(frame)
        del self.flying[:count]

    def acknowledge(self) -> None:
        if self.heard is not None:
            assert self.out.acknowledge(SESSION, self.heard.count)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("write"), st.integers(1, 40)),
        st.tuples(st.just("read"), st.integers(1, 8)),
        st.tuples(st.just("acknowledge"), st.just(0)),
        st.tuples(st.just("reconnect"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_everything_arrives_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    pair = Pair(items_max=1_000)
    pair.reconnect()
    sent: list[bytes] = []
    for name, amount in steps:
        match name:
            case "put":
                for _ in range(amount):
                    sent.append(len(sent).to_bytes(4, "big"))
                    assert pair.out.put(sent[-1], 0.0) == 0
            case "write":
                pair.write(amount)
            case "read":
                pair.read(amount)
            case "acknowledge":
                pair.acknowledge()
            case _:
                pair.reconnect()
        assert pair.arrived == sent[: len(pair.arrived)]
    pair.reconnect()
    pair.write(1 << 20)
    pair.read(len(pair.flying))
    assert pair.arrived == sent
    pair.acknowledge()
    assert (len(pair.out), pair.out.unacknowledged) == (0, 0)


@given(st.integers(1, 20), st.integers(0, 60))
def test_a_full_queue_drops_the_oldest_and_numbers_go_on(items_max: int, puts: int) -> None:
    out = Outbox(SESSION, items_max)
    dropped = sum(out.put(bytes([number]), 0.0) for number in range(puts))
    assert dropped == max(0, puts - items_max)
    assert [item.number for item in out.take(1 << 20)] == list(range(dropped + 1, puts + 1))


def test_what_is_kept_is_bounded_in_number_and_in_bytes() -> None:
    out = Outbox(SESSION, 10_000)
    for _ in range(KEPT_ITEMS + 10):
        out.put(b"x", 0.0)
    out.take(1 << 30)
    assert out.unacknowledged == KEPT_ITEMS
    large = Outbox(SESSION, 10_000)
    for _ in range(6):
        large.put(bytes(KEPT_BYTES // 4), 0.0)
    large.take(1 << 30)
    assert large.unacknowledged == 4


def test_a_sender_that_starts_anew_is_heard_from_its_first() -> None:
    known = Heard(b"o" * 16, 40, 40)
    heard, lost = resumed(known, SESSION, 1)
    assert (heard.count, lost) == (0, 0)
    assert heard.take(1)
    assert not heard.take(1)


def test_messages_given_up_are_counted_when_a_session_goes_on() -> None:
    heard, lost = resumed(Heard(SESSION, 4, 4), SESSION, 8)
    assert lost == 3
    assert not heard.take(7)
    assert heard.take(8)


def test_a_claim_to_have_heard_the_future_is_seen() -> None:
    out = Outbox(SESSION, 10)
    out.put(b"a", 0.0)
    assert not out.acknowledge(SESSION, 2)
    assert out.acknowledge(b"x" * 16, 9)
    assert out.acknowledge(SESSION, 1)
    assert (len(out), out.acked) == (0, 1)


def test_old_messages_expire() -> None:
    out = Outbox(SESSION, 10)
    for second in range(5):
        out.put(b"a", float(second))
    assert out.expire(3.0) == 3
    assert out.first == 4


def test_an_ack_becomes_urgent() -> None:
    heard = Heard(SESSION, 0, 0)
    for number in range(1, ACK_EVERY + 1):
        assert not heard.is_ack_urgent
        heard.take(number)
    assert heard.is_ack_urgent
