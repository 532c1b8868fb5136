"""Cross-checks: when they ask, what they conclude, and two networks with one bootstrap list that become one."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.partition import (
    BRIDGES,
    CHECK_FIRST,
    CHECK_INTERVAL,
    CHECK_SOON,
    PROBE_TIMEOUT,
    CrossCheck,
    Idle,
    Merge,
    Probe,
    Waiting,
)
from protocol.overlay.peer_record import key_of
from protocol.overlay.questions import Find, Found
from protocol.units import MINUTE, SECOND, Micros, PeerId
from tests.protocol.overlay.crowd import START, Crowd, Member, identity_of
from tests.protocol.overlay.test_routing_table import contact

ME = identity_of(0).peer
A, B, C = (identity_of(number).peer for number in (1, 2, 3))
DUE = Micros(START + CHECK_FIRST)


def checking(*known: PeerId, seed: int = 1) -> tuple[CrossCheck, list[Probe]]:
    check = CrossCheck(ME, START, Random(seed))
    assert check.tick((), (), known, Micros(DUE - 1)) == []
    return check, check.tick((), (), known, DUE)


def test_a_bootstrap_that_is_no_neighbour_is_asked_first() -> None:
    check = CrossCheck(ME, START, Random(1))
    assert check.tick({A}, [A, B, ME], [C, ME], DUE) == [Probe(B)]
    assert isinstance(check.state, Waiting)
    assert check.tick({A}, [A, B], [C], DUE) == []
    later = Micros(DUE + PROBE_TIMEOUT)
    assert check.tick({A}, [A, B], [C], later) == []  # The witness is silent.
    assert check.tick({A}, [A, B], [C], Micros(later + 2 * CHECK_SOON)) == [Probe(C)]


def test_without_strangers_there_is_nothing_to_doubt() -> None:
    check = CrossCheck(ME, START, Random(1))
    assert check.tick({A, B}, [A], [B, ME], DUE) == []
    assert check.state == Idle(Micros(DUE + CHECK_INTERVAL))


def test_a_witness_that_knows_us_and_ours_is_in_our_network() -> None:
    check, probes = checking(A)
    named = [contact(0), contact(2), contact(3)]
    assert check.answered(probes[0].witness, named, [], {B, C}, DUE) == []
    assert isinstance(check.state, Idle)
    assert check.state.until >= DUE + CHECK_INTERVAL * 3 // 4
    assert check.splits == 0


def test_a_witness_that_does_not_know_us_has_another_half() -> None:
    check, _ = checking(A)
    strangers = [contact(number) for number in range(10, 20)]
    (merge,) = check.answered(A, strangers, [], {B}, DUE)
    assert set(merge.strangers) == set(strangers)
    assert len(merge.bridges) == BRIDGES
    assert set(merge.bridges) <= set(strangers)
    assert check.splits == 1
    assert isinstance(check.state, Idle)
    assert check.state.until < DUE + 2 * CHECK_SOON


def test_a_witness_that_knows_us_among_strangers_has_one_too() -> None:
    check, _ = checking(A)
    (merge,) = check.answered(A, [contact(0), contact(10), contact(11)], [], {B}, DUE)
    assert {one.peer for one in merge.strangers} == {contact(10).peer, contact(11).peer}


def test_a_newcomer_knows_nobody_and_that_is_no_split() -> None:
    check, _ = checking(A)
    assert check.answered(A, [], [], set(), DUE) == []
    assert check.splits == 0


def test_answers_of_others_change_nothing() -> None:
    check, _ = checking(A)
    state = check.state
    assert check.answered(B, [contact(10)], [], set(), DUE) == []
    check.failed(B, DUE)
    assert check.state == state


@given(st.lists(st.tuples(st.sampled_from(["tick", "failed", "answered"]), st.integers(0, 60)), max_size=60))
def test_one_question_at_a_time_and_never_silent_for_long(steps: list[tuple[str, int]]) -> None:
    check, now = CrossCheck(ME, START, Random(3)), START
    last = now
    for step, seconds in steps:
        now = Micros(now + seconds * SECOND)
        if step == "tick":
            probes = check.tick({C}, [A], [B, C], now)
            assert len(probes) <= 1
            assert all(probe.witness in (A, B) for probe in probes)
            last = now if probes else last
        elif isinstance(check.state, Waiting) and step == "failed":
            check.failed(check.state.witness, now)
        elif isinstance(check.state, Waiting):
            check.answered(check.state.witness, [], [], set(), now)
    state = check.state
    assert state.until <= now + CHECK_INTERVAL * 5 // 4


# ── the crowd ────────────────────────────────────────────────────────────────────────────────────────────────────────
def cross_check(crowd: Crowd, member: Member, check: CrossCheck, known: list[PeerId]) -> int:
    """What the driver does with a probe; how many merges followed."""
    directory = member.directory
    table = {entry.contact.peer for entry in directory.table}
    merges = 0
    for probe in check.tick(table, [], known, crowd.now):
        witness = crowd.members[probe.witness]
        if witness.island != member.island or not witness.is_up:
            check.failed(probe.witness, crowd.now)
            continue
        key = key_of(member.peer)
        reply = witness.answer(member.peer, Find(key, directory.own.signed))
        assert isinstance(reply, Found)
        named, kept = directory.opened(witness.peer, key, reply, crowd.now)
        for effect in check.answered(witness.peer, named, kept, table | {witness.peer}, crowd.now):
            assert isinstance(effect, Merge)
            crowd.perform(member, directory.merge(effect.strangers, crowd.now))
            merges += 1
    return merges


def test_two_networks_with_one_list_become_one() -> None:
    """Bootstraps A and B, each with its own crowd, never met; every peer remembers both. Cross-checks merge them."""
    crowd = Crowd(5)
    halves: list[list[Member]] = []
    for island, numbers in ((0, range(1, 31)), (1, range(31, 61))):
        boot = Member(crowd, 100 + island)
        boot.island = island
        crowd.add(boot)
        members = []
        for number in numbers:
            member = Member(crowd, number)
            member.island = island
            crowd.add(member)
            member.directory.suggest([boot.peer])
            crowd.perform(member, member.directory.join(crowd.now))
            crowd.run(SECOND // 2)
            members.append(member)
        halves.append(members)
    left, right = halves
    assert not any(contact.peer == right[5].peer for contact in crowd.look_up(left[3], key_of(right[5].peer)).kept)
    for member in crowd.members.values():
        member.island = 0  # The cable is back.
    checks = {member.peer: CrossCheck(member.peer, crowd.now, Random(member.peer)) for member in left + right}
    remembered = [identity_of(100).peer, identity_of(101).peer]
    merges = 0
    for _ in range(180):
        crowd.run(SECOND)
        for member in left + right:
            merges += cross_check(crowd, member, checks[member.peer], remembered)
    assert merges >= 1
    crowd.run(10 * MINUTE)
    dice = Random(8)
    found = 0
    for _ in range(50):
        one, other = dice.choice(left), dice.choice(right)
        found += any(contact.peer == other.peer for contact in crowd.look_up(one, key_of(other.peer)).kept)
        found += any(contact.peer == one.peer for contact in crowd.look_up(other, key_of(one.peer)).kept)
    assert found == 100
