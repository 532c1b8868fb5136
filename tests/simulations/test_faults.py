"""The fault list becomes what will happen: who, when, for how long, the same from the same seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.faults import plan
from simulations.scenario import NS, Fault, Injection, Role

COUNTS: tuple[tuple[Role, int], ...] = (("validator", 4), ("steward", 2), ("provider", 10))
ROLES: list[Role] = [role for role, count in COUNTS for _ in range(count)]
REGIONS = ["eu", "us", "eu", "asia"] * 4
HOUR = 3_600 * NS


def planned(*faults: Fault, seed: int = 1, duration: int = HOUR) -> list[Injection]:
    return plan(faults, ROLES, REGIONS, duration, Random(seed))


def test_lines_are_unrolled_sorted_and_numbered() -> None:
    found = planned(
        Fault(kind="kill", at=10 * NS, every=20 * NS, until=50 * NS, role="provider", n=2, last=5 * NS),
        Fault(kind="loss", at=30 * NS, amount=0.2, last=7 * NS),
        duration=100 * NS,
    )
    assert [(one.number, one.kind, one.at, one.until) for one in found] == [
        (0, "kill", 10 * NS, 15 * NS),
        (1, "kill", 30 * NS, 35 * NS),
        (2, "loss", 30 * NS, 37 * NS),
        (3, "kill", 50 * NS, 55 * NS),
    ]
    assert found[2].peers == () and found[2].amount == 0.2
    assert len({one.peers for one in found}) > 2, "each time others are drawn"


def test_no_fault_begins_at_or_lasts_beyond_the_end_of_the_safety_phase() -> None:
    found = planned(Fault(kind="kill", at=0, every=10 * NS, n=1, last=25 * NS), duration=50 * NS)
    assert [(one.at // NS, one.until // NS) for one in found] == [(0, 25), (10, 35), (20, 45), (30, 50), (40, 50)]


def test_everybody_but_validators_can_be_hit_unless_a_role_is_named() -> None:
    hit = {peer for one in planned(Fault(kind="kill", every=NS, n=1)) for peer in one.peers}
    assert hit == set(range(4, 16))
    hit = {peer for one in planned(Fault(kind="kill", every=NS, n=1, role="validator")) for peer in one.peers}
    assert hit == set(range(4))


@pytest.mark.parametrize(("share", "count"), [(1.0, 10), (0.5, 5), (0.26, 3), (0.001, 1)])
def test_a_share_is_rounded_and_never_nobody(share: float, count: int) -> None:
    (one,) = planned(Fault(kind="clog", amount=1.0, role="provider", share=share))
    assert len(one.peers) == count and set(one.peers) <= set(range(6, 16))


def test_a_partition_names_regions_and_roles() -> None:
    (one,) = planned(Fault(kind="partition", groups=("asia",), one_way=True))
    assert one.peers == (3, 7, 11, 15) and one.one_way
    (one,) = planned(Fault(kind="partition", groups=("asia", "validators")))
    assert one.peers == (0, 1, 2, 3, 7, 11, 15)
    assert planned(Fault(kind="partition", groups=("steward",)))[0].peers == (4, 5)
    assert planned(Fault(kind="partition", groups=("steward", "rest")))[0].peers == (4, 5)


def test_a_partition_without_groups_cuts_a_random_minority() -> None:
    (one,) = planned(Fault(kind="partition", n=3, role="validator"))
    assert len(one.peers) == 3 and set(one.peers) <= set(range(4))
    sizes = {len(one.peers) for one in planned(Fault(kind="partition", every=NS))}
    assert sizes == set(range(1, 9)), "any size up to half of all"


def test_what_a_kind_needs_is_handed_on() -> None:
    (clock,) = planned(Fault(kind="clock", n=1, amount=-288.0, drift_ppm=40.0))
    assert (clock.amount, clock.drift_ppm) == (-288.0, 40.0)
    (disk,) = planned(Fault(kind="disk", n=1, disk="rot", role="validator"))
    assert (disk.kind, disk.disk) == ("disk", "rot")


lines = st.lists(
    st.one_of(
        st.builds(
            Fault, kind=st.just("kill"), at=st.integers(0, HOUR - 1), every=st.integers(NS, HOUR), n=st.integers(1, 12)
        ),
        st.builds(Fault, kind=st.just("partition"), at=st.integers(0, HOUR - 1), share=st.floats(0.0, 0.6)),
        st.builds(
            Fault, kind=st.just("corrupt"), role=st.just("provider"), share=st.floats(0.01, 1.0), amount=st.just(0.5)
        ),
    ),
    max_size=5,
)


@given(faults=lines, seed=st.integers(0, 1 << 32))
def test_a_plan_is_a_pure_function_in_order(faults: list[Fault], seed: int) -> None:
    found = planned(*faults, seed=seed)
    assert found == planned(*faults, seed=seed)
    assert [one.number for one in found] == list(range(len(found)))
    assert [one.at for one in found] == sorted(one.at for one in found)
    for one in found:
        assert one.peers == tuple(sorted(set(one.peers))) and 0 <= one.at <= one.until <= HOUR
        assert one.peers


def test_changing_a_line_leaves_the_others_as_they_were() -> None:
    kill = Fault(kind="kill", at=NS, every=60 * NS, n=3)
    clog = Fault(kind="clog", at=2 * NS, every=90 * NS, n=3, amount=0.5)

    def who(*faults: Fault) -> list[tuple[int, tuple[int, ...]]]:
        return [(one.at, one.peers) for one in planned(*faults) if one.kind == "clog"]

    assert who(kill, clog) == who(Fault(kind="kill", at=NS, n=1), clog)


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (Fault(kind="kill", at=HOUR, n=1), "late_fault", "at is"),
        (Fault(kind="kill", until=2 * HOUR, n=1), "late_fault", "until is"),
        (Fault(kind="kill", at=9 * NS, until=8 * NS, n=1), "late_fault", "until is"),
        (Fault(kind="kill", at=-1, n=1), "bad_fault", "at is -1"),
        (Fault(kind="kill", every=-1, n=1), "bad_fault", "every is -1"),
        (Fault(kind="kill", last=-1, n=1), "bad_fault", "last is -1"),
        (Fault(kind="kill", every=1, n=1), "too_many_faults", "every 1 ns"),
        (Fault(kind="kill"), "bad_fault", "nobody is hit"),
        (Fault(kind="kill", n=-1), "bad_fault", "n is -1"),
        (Fault(kind="kill", share=1.5), "bad_fault", "share is 1.5"),
        (Fault(kind="kill", share=float("nan")), "bad_fault", "share is nan"),
        (Fault(kind="kill", n=1, share=0.5), "bad_fault", "n and share"),
        (Fault(kind="kill", n=3, role="steward"), "too_few_peers", "there are 2 of steward"),
        (Fault(kind="kill", n=1, groups=("eu",)), "bad_fault", "n and groups"),
        (Fault(kind="kill", n=1, one_way=True), "bad_fault", "one_way is for partitions"),
        (Fault(kind="kill", n=1, amount=1.5), "bad_fault", "amount is 1.5"),
        (Fault(kind="partition", n=1, amount=1.0), "bad_fault", "amount has no meaning"),
        (Fault(kind="kill", n=1, drift_ppm=1.0), "bad_fault", "drift_ppm is for clocks"),
        (Fault(kind="clock", n=1), "bad_fault", "changes nothing"),
        (Fault(kind="clog", n=1, amount=-1.0), "bad_fault", "amount is -1.0"),
        (Fault(kind="corrupt", n=1, amount=1.1), "bad_fault", "amount is 1.1"),
        (Fault(kind="loss", amount=float("nan")), "bad_fault", "amount is nan"),
        (Fault(kind="loss", amount=0.1, n=1), "bad_fault", "names nobody"),
        (Fault(kind="loss", amount=0.1, role="steward"), "bad_fault", "names nobody"),
        (Fault(kind="partition", groups=("mars",)), "no_such_group", "'mars'"),
        (Fault(kind="partition", groups=("eu", "us", "asia")), "no_other_side", "everybody"),
        (Fault(kind="partition", groups=("rest",)), "no_such_role", "nobody is in rest"),
        (Fault(kind="partition", groups=("eu",), role="provider"), "bad_fault", "role and groups"),
        (Fault(kind="partition", n=9), "no_minority", "9 of 16"),
    ],
)
def test_lines_that_cannot_be_meant_are_refused(fault: Fault, code: str, says: str) -> None:
    with pytest.raises(Refused) as caught:
        planned(Fault(kind="kill", n=1), fault)
    assert caught.value.code == code
    assert f"line 2 ({fault.kind})" in caught.value.detail and says in caught.value.detail
    assert caught.value.fix


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="kill", n=1, role="provider"), "no_such_role"),
        (Fault(kind="kill", n=1), "no_such_role"),
        (Fault(kind="partition", groups=("provider",)), "no_such_role"),
        (Fault(kind="partition", role="validator"), "no_minority"),
    ],
)
def test_a_fault_on_somebody_who_is_not_there_is_refused(fault: Fault, code: str) -> None:
    with pytest.raises(Refused) as caught:
        plan([fault], ["validator"], ["eu"], HOUR, Random(1))
    assert caught.value.code == code and "line 1" in caught.value.detail


def test_one_region_per_peer_is_needed() -> None:
    with pytest.raises(Refused, match="16 peers have a role, 1 a region"):
        plan([], ROLES, ["eu"], HOUR, Random(1))
