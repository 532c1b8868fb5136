"""Tickets: each opens one connection, for its peer, in time; a peer cannot hoard them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bulk.tickets import TICKET_US, TICKETS_MAX, TICKETS_PER_PEER, TicketOffice
from protocol.errors import Refused, Unavailable
from protocol.units import Digest, Micros, PeerId

DIGEST = Digest(b"d" * 32)
PEER = PeerId(b"p" * 32)


def secret(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_ticket_is_found_until_it_is_used() -> None:
    office = TicketOffice()
    ticket = office.issue(PEER, [DIGEST], secret(1), Micros(0))
    assert office.find(ticket.id, Micros(1)) == office.find(ticket.id, Micros(1)) == ticket
    assert office.redeem(ticket.id, Micros(1)) == ticket
    with pytest.raises(Unavailable):
        office.redeem(ticket.id, Micros(1))


def test_a_ticket_that_expired_is_worth_nothing_and_takes_no_room() -> None:
    office = TicketOffice()
    ticket = office.issue(PEER, [DIGEST], secret(1), Micros(0))
    office.find(ticket.id, Micros(TICKET_US - 1))
    with pytest.raises(Unavailable):
        office.find(ticket.id, TICKET_US)
    office.issue(PEER, [DIGEST], secret(2), TICKET_US)
    assert len(office) == 1


def test_one_peer_cannot_take_all_tickets() -> None:
    office = TicketOffice()
    for number in range(TICKETS_PER_PEER):
        office.issue(PEER, [DIGEST], secret(number), Micros(0))
    with pytest.raises(Refused) as refusal:
        office.issue(PEER, [DIGEST], secret(99), Micros(0))
    assert refusal.value.numbers == {"peer": TICKETS_PER_PEER, "all": TICKETS_PER_PEER}
    office.issue(PeerId(b"q" * 32), [DIGEST], secret(100), Micros(0))
    office.issue(PEER, [DIGEST], secret(101), TICKET_US)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, TICKET_US)), max_size=60))
def test_the_office_never_holds_more_than_it_may_nor_one_ticket_twice(steps: list[tuple[int, int, int]]) -> None:
    office, now, dice = TicketOffice(), 0, random.Random(1)
    alive: dict[bytes, int] = {}
    for number, (peer, action, later) in enumerate(steps):
        now += later
        if action:
            ticket = office.issue(PeerId(bytes([peer]) * 32), [DIGEST], secret(number), Micros(now))
            alive[ticket.id] = now
        elif alive:
            name = dice.choice(sorted(alive))
            is_good = now < alive.pop(name) + TICKET_US
            try:
                office.redeem(name, Micros(now))
            except Unavailable:
                assert not is_good
            else:
                assert is_good
        assert len(office) <= TICKETS_MAX
