"""Two machines that talk to each other dial at the same moment, give up in time, and bear any nonsense."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalError, RemoteViolation
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.punch import (
    ADDRESSES_MAX,
    ANSWER_US,
    ANSWERS_PER_MINUTE,
    ATTEMPTS,
    DIAL_US,
    GIVE_UP_US,
    PEERS_MAX,
    PUNCH_AGAIN_US,
    PUNCH_RETRY_MAX_US,
    PUNCH_RETRY_US,
    PUNCH_SOON_US,
    Connect,
    Dial,
    Dialling,
    Effect,
    Ended,
    Message,
    Open,
    Punch,
    PunchMemory,
    Send,
    Sync,
    attempts,
    role_of,
)
from protocol.units import MINUTE, SECOND, Micros, PeerId

NOW = Micros(1_700_000_000 * SECOND)
ALICE, BOB = PeerId(b"a" * 32), PeerId(b"b" * 32)
UNKNOWN: tuple[NatKind, NatKind] = ("unknown", "unknown")
HERE, THERE = ("/ip4/11.1.0.1/tcp/4301",), ("/ip4/11.2.0.1/tcp/4301",)
kinds = st.sampled_from(["none", "cone", "symmetric", "unknown"])


def punch(peer: PeerId = BOB, addresses: tuple[str, ...] = HERE, kinds: tuple[NatKind, NatKind] = UNKNOWN) -> Punch:
    return Punch(peer, addresses, kinds, lambda address: address.startswith("/ip4/11."))


def messages(effects: tuple[Effect, ...]) -> Iterator[Message]:
    return (effect.message for effect in effects if isinstance(effect, Send))


def dials(effects: tuple[Effect, ...]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


@given(st.integers(0, ANSWER_US // 2), st.integers(0, ANSWER_US // 2), st.integers(0, ANSWER_US // 2))
def test_both_dial_at_the_same_moment(there: int, back: int, again: int) -> None:
    """However long the ways take, the error is half of what they differ by."""
    asks, answers = punch(), punch(ALICE, THERE)
    effects = asks.initiate(NOW)
    assert effects[0] == Open()
    answers.answer(NOW)
    heard = Micros(NOW + there)
    reply = answers.receive(next(messages(effects)), heard)
    effects = asks.receive(next(messages(reply)), Micros(heard + back))
    ours = dials(effects)[0]
    theirs = dials(answers.receive(next(messages(effects)), Micros(heard + back + again)))[0]
    assert (ours.addresses, theirs.addresses) == (THERE, HERE)
    assert (ours.role, theirs.role) == ("server", "client")
    assert abs(ours.at - theirs.at) <= abs(again - (there + back) / 2) + 1
    asks.connected()
    answers.connected()
    assert asks.state == answers.state == Ended(True, "direct")


@given(kinds, kinds, st.lists(st.sampled_from(["connect", "sync", "failed", "tick"]), max_size=20), st.booleans())
def test_it_ends_within_six_seconds_whatever_comes(
    ours: NatKind, theirs: NatKind, story: list[str], is_initiator: bool
) -> None:
    machine = punch(kinds=(ours, theirs))
    if is_initiator:
        machine.initiate(NOW)
    else:
        machine.answer(NOW)
    now = NOW
    opened = 1
    for what in story:
        now = Micros(now + SECOND // 4)
        try:
            match what:
                case "connect":
                    effects = machine.receive(Connect(THERE), now)
                case "sync":
                    effects = machine.receive(Sync(), now)
                case "failed":
                    effects = machine.failed("broken", now)
                case _:
                    effects = machine.tick(now)
        except RemoteViolation as error:
            assert error.peer == BOB
            continue
        opened += effects.count(Open())
        for dial in dials(effects):
            assert now <= dial.at <= dial.until <= max(NOW + GIVE_UP_US, dial.at)
    assert opened <= ATTEMPTS
    while machine.due is not None:
        assert machine.due <= NOW + GIVE_UP_US
        now = max(now, machine.due)
        machine.tick(now)
    assert isinstance(machine.state, Ended)
    assert now <= max(NOW + GIVE_UP_US, NOW + len(story) * SECOND // 4)


def test_one_retry_and_no_more() -> None:
    machine = punch()
    machine.initiate(NOW)
    machine.receive(Connect(THERE), NOW)
    effects = machine.failed("nobody came through", Micros(NOW + DIAL_US))
    assert effects == (Open(), Send(Connect(HERE)))
    machine.receive(Connect(THERE), Micros(NOW + DIAL_US))
    assert machine.failed("again", Micros(NOW + 2 * DIAL_US)) == ()
    assert machine.state == Ended(False, "again")


def test_a_silent_peer_costs_twice_the_wait_for_an_answer() -> None:
    machine = punch()
    machine.initiate(NOW)
    assert machine.tick(Micros(NOW + ANSWER_US - 1)) == ()
    assert Open() in machine.tick(Micros(NOW + ANSWER_US))
    assert machine.tick(Micros(NOW + 2 * ANSWER_US)) == ()
    assert isinstance(machine.state, Ended)


def test_what_cannot_work_is_not_tried() -> None:
    machine = punch(kinds=("symmetric", "symmetric"))
    assert machine.initiate(NOW) == ()
    assert machine.state == Ended(False, "both routers change their mapping with every destination")
    every: tuple[NatKind, ...] = ("cone", "symmetric", "unknown")
    tries = {(one, other): attempts(one, other) for one, other in itertools.product(every, every)}
    assert {pair for pair, count in tries.items() if count == 0} == {("symmetric", "symmetric")}
    assert tries["symmetric", "cone"] == tries["unknown", "symmetric"] == 1
    assert tries["cone", "unknown"] == ATTEMPTS


def test_roles_never_meet_in_silence() -> None:
    assert role_of("cone") == role_of("unknown") == role_of("none") == "server"
    assert role_of("symmetric") == "client"


def test_nobody_makes_us_dial_inside_or_everywhere() -> None:
    machine = punch()
    machine.answer(NOW)
    inside = tuple(f"/ip4/192.168.1.{n}/tcp/22" for n in range(5))
    outside = tuple(f"/ip4/11.0.0.{n}/tcp/22" for n in range(50))
    machine.receive(Connect(inside + outside), NOW)
    (dial,) = dials(machine.receive(Sync(), NOW))
    assert dial.addresses == outside[:ADDRESSES_MAX]
    other = punch()
    other.answer(NOW)
    other.receive(Connect(inside), NOW)
    assert other.receive(Sync(), NOW) == ()
    assert isinstance(other.state, Ended)


@pytest.mark.parametrize("early", [Sync(), None])
def test_the_order_is_kept(early: Sync | None) -> None:
    machine = punch()
    machine.answer(NOW)
    if early is None:
        machine.receive(Connect(THERE), NOW)
    with pytest.raises(RemoteViolation, match=r"SYNC while Listening|CONNECT while Ready"):
        machine.receive(early or Connect(THERE), NOW)
    with pytest.raises(LocalError):
        machine.initiate(NOW)


def test_the_responder_does_not_retry_by_itself() -> None:
    machine = punch()
    machine.answer(NOW)
    machine.receive(Connect(THERE), NOW)
    machine.receive(Sync(), NOW)
    state = machine.state
    assert isinstance(state, Dialling)
    assert machine.failed("nobody came through", Micros(NOW + DIAL_US)) == ()
    assert isinstance(machine.state, Ended)


def test_failures_are_remembered_until_something_changes() -> None:
    memory = PunchMemory()
    here, elsewhere = frozenset(HERE), frozenset(THERE)
    now, waits = NOW, []
    assert memory.may_try(BOB, here, now)
    for _ in range(7):
        memory.failed(BOB, here, now)
        assert memory.may_try(BOB, elsewhere, now)
        wait = next(
            us for us in range(0, PUNCH_RETRY_MAX_US + 1, MINUTE) if memory.may_try(BOB, here, Micros(now + us))
        )
        waits.append(wait)
        now = Micros(now + wait)
    assert waits[:4] == [PUNCH_AGAIN_US, PUNCH_RETRY_US, 2 * PUNCH_RETRY_US, 4 * PUNCH_RETRY_US]
    assert waits[-1] == PUNCH_RETRY_MAX_US
    memory.failed(BOB, elsewhere, now)
    assert not memory.may_try(BOB, elsewhere, Micros(now + PUNCH_AGAIN_US - 1))
    assert memory.may_try(BOB, elsewhere, Micros(now + PUNCH_AGAIN_US)), "elsewhere nothing failed yet"
    memory.failed(BOB, elsewhere, now)
    memory.succeeded(BOB)
    assert memory.may_try(BOB, elsewhere, now)


def test_a_punch_that_proved_nothing_is_repeated_sooner() -> None:
    memory, now = PunchMemory(), NOW
    for count in range(3):
        memory.failed(BOB, frozenset(HERE), now, is_verdict=False)
        due = Micros(now + (PUNCH_SOON_US << count))
        assert not memory.may_try(BOB, frozenset(HERE), Micros(due - 1))
        assert memory.may_try(BOB, frozenset(HERE), due)
        now = due
    memory.failed(BOB, frozenset(HERE), now)
    assert memory.may_try(BOB, frozenset(HERE), Micros(now + PUNCH_AGAIN_US)), "the first one that was dialled"


def test_only_a_dial_between_known_routers_is_a_verdict() -> None:
    verdicts = {}
    for kinds in (("cone", "cone"), UNKNOWN, ("cone", "unknown")):
        machine = punch(kinds=kinds)
        machine.initiate(NOW)
        assert not machine.is_verdict
        machine.receive(Connect(THERE), Micros(NOW + 1))
        verdicts[kinds] = machine.is_verdict
    assert list(verdicts.values()) == [True, False, False]


def test_memory_is_bounded() -> None:
    memory = PunchMemory()
    crowd = [PeerId(number.to_bytes(32, "big")) for number in range(PEERS_MAX + 1)]
    for peer in crowd:
        memory.failed(peer, frozenset(), NOW)
    assert memory.may_try(crowd[0], frozenset(), NOW)
    assert not memory.may_try(crowd[1], frozenset(), NOW)


def test_a_peer_is_answered_so_often_and_no_more() -> None:
    memory = PunchMemory()
    assert [memory.may_answer(BOB, NOW) for _ in range(ANSWERS_PER_MINUTE + 1)] == [True] * ANSWERS_PER_MINUTE + [False]
    assert memory.may_answer(ALICE, NOW)
    assert memory.may_answer(BOB, Micros(NOW + MINUTE // ANSWERS_PER_MINUTE))
