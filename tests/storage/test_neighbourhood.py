"""storage/neighbourhood.py: offers become candidates, and domains are remembered."""

from __future__ import annotations

from protocol.units import Micros, PeerId
from storage.neighbourhood import Neighbourhood, Seen
from storage.standing import GONE_AFTER, Standings

ME, A, B = (PeerId(bytes([n]) * 32) for n in range(3))
NOW = Micros(10**12)


def test_nobody_keeps_its_own_and_the_barred_get_nothing() -> None:
    standings = Standings()
    hood = Neighbourhood(ME, standings, lambda: [Seen(ME), Seen(A), Seen(B)])
    assert [one.peer for one in hood.candidates()] == [A, B]
    assert [one.peer for one in hood.candidates([A])] == [B]
    for _ in range(5):
        standings.lied(B, NOW)
    assert [one.peer for one in hood.candidates()] == [A]
    assert [one.peer for one in hood.known([B])] == [B]


def test_a_domain_outlives_its_offer_and_follows_the_address() -> None:
    book = [Seen(A, ("/ip4/8.8.8.8/udp/1/quic-v1",))]
    hood = Neighbourhood(ME, Standings(), lambda: book)
    assert hood.domain(A) == "8.8.8.0/24"
    book.clear()
    assert hood.domain(A) == "8.8.8.0/24"
    assert hood.known([A])[0].where.area == "8.8.0.0/16"
    book.append(Seen(A, ("/ip4/9.9.9.9/udp/1/quic-v1",)))
    hood.look(NOW)
    assert hood.domain(A) == "9.9.9.0/24"
    assert hood.domain(B) == B.hex()


def test_who_has_an_offer_is_alive() -> None:
    standings, book = Standings(), [Seen(A)]
    hood = Neighbourhood(ME, standings, lambda: book)
    hood.look(NOW)
    assert hood.is_here(A)
    book.clear()
    later = Micros(NOW + GONE_AFTER)
    hood.look(later)
    assert not hood.is_here(A)
    assert standings.is_gone(A, later)
