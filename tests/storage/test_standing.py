"""storage/standing.py: liars are barred, silence counts on the third strike, speed is judged besides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.units import MIB, SECOND, Micros, PeerId
from storage.standing import EMPTY_FOR, GONE_AFTER, KEEPS_NOTHING, PEERS_MAX, STRIKES_MAX, Standings

PEER = PeerId(bytes(32))
NOW = Micros(10**12)


def test_four_lies_in_a_row_bar_a_holder_and_one_does_not() -> None:
    standings = Standings()
    for count in range(1, 5):
        standings.lied(PEER, NOW)
        assert standings.of(PEER).is_barred == (count == 4)


def test_a_liar_stays_barred_for_long() -> None:
    standings = Standings()
    for _ in range(6):
        standings.lied(PEER, NOW)
    for _ in range(10):
        standings.proved(PEER, Micros(1), NOW)
    assert standings.of(PEER).is_barred


def test_who_keeps_nothing_is_no_holder_for_an_hour() -> None:
    standings = Standings()
    standings.refused(PEER, "full", NOW)
    assert standings.of(PEER).is_usable
    standings.refused(PEER, KEEPS_NOTHING, NOW)
    assert not standings.of(PEER).is_usable
    standings.present(PEER, Micros(NOW + EMPTY_FOR - 1))
    assert not standings.of(PEER).is_usable
    standings.present(PEER, Micros(NOW + EMPTY_FOR))
    assert standings.of(PEER).is_usable


def test_three_strikes_and_any_answer_wipes_them_out() -> None:
    standings = Standings()
    for _ in range(10):
        assert [standings.silent(PEER) for _ in range(STRIKES_MAX - 1)] == [False] * (STRIKES_MAX - 1)
        standings.proved(PEER, Micros(1), NOW)
    assert standings.of(PEER).presence == 1.0
    assert [standings.silent(PEER) for _ in range(STRIKES_MAX)][-1]
    assert standings.of(PEER).presence < 1.0


def test_who_never_answers_is_not_chosen_and_may_come_back() -> None:
    standings = Standings()
    for _ in range(STRIKES_MAX * 6):
        standings.silent(PEER)
    assert not standings.of(PEER).is_usable
    for _ in range(20):
        standings.proved(PEER, Micros(1), NOW)
    assert standings.of(PEER).is_usable


def test_proofs_without_bandwidth_are_worth_nothing() -> None:
    standings = Standings()
    for _ in range(30):
        standings.proved(PEER, Micros(1_000), NOW)
    standings.served(PEER, 64 * 1024, Micros(64 * SECOND))
    assert standings.of(PEER).is_slow
    assert not standings.of(PEER).is_usable


def test_a_small_quick_transfer_says_nothing_about_speed() -> None:
    standings = Standings()
    standings.served(PEER, 500, Micros(SECOND // 10))
    assert standings.of(PEER).uplink is None
    standings.served(PEER, MIB, Micros(SECOND))
    assert standings.of(PEER).uplink == MIB


def test_gone_after_a_quarter_of_an_hour_and_not_before() -> None:
    standings = Standings()
    assert not standings.is_gone(PEER, NOW)  # nobody has listened yet
    standings.present(PEER, NOW)
    assert not standings.is_gone(PEER, Micros(NOW + GONE_AFTER - 1))
    assert standings.is_gone(PEER, Micros(NOW + GONE_AFTER))


@given(st.lists(st.sampled_from(["proved", "lied", "silent", "kept"]), max_size=200))
def test_bounds(events: list[str]) -> None:
    standings = Standings()
    for event in events:
        match event:
            case "proved":
                standings.proved(PEER, Micros(5), NOW)
            case "lied":
                standings.lied(PEER, NOW)
            case "kept":
                standings.kept(PEER, NOW)
            case _:
                standings.silent(PEER)
    one = standings.of(PEER)
    assert 0.0 <= one.truth <= 1.0
    assert 0.0 <= one.presence <= 1.0
    assert 0 <= one.failures <= one.seen
    assert 0.0 <= standings.gone_at_most([PEER]) <= 1.0


def test_memory_is_bounded() -> None:
    standings = Standings()
    for number in range(PEERS_MAX + 10):
        standings.lied(PeerId(number.to_bytes(32, "big")), NOW)
    assert standings.of(PeerId(bytes(32))).lies == 0.0
    assert standings.of(PeerId((PEERS_MAX + 9).to_bytes(32, "big"))).lies == 1.0
