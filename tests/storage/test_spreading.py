"""storage/spreading.py and the machines around it, driven by Hypothesis: anybody fails at any time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocol.snapshots import Manifest
from protocol.units import MIB, MINUTE, SECOND
from tests.storage.vault_town import Member, Town

PEERS = 22


class Churn(RuleBasedStateMachine):
    """A protected chunk among peers that die, hang, lie and come back.

    Of the holders that had signed for a snapshot when it became durable, only as many are hurt as its code can bear."""

    @initialize(seed=st.integers(0, 1_000), has_standby=st.booleans())
    def open(self, seed: int, has_standby: bool) -> None:
        self.town = Town(PEERS, seed)
        self.worker, self.standby, self.steward = self.town.all[:3]
        self.lease = self.town.begin(self.worker, self.standby if has_standby else None, self.steward)
        self.best = 0
        self.hurt: set[int] = set()
        self.town.after = self.check
        self.town.run(30 * SECOND)

    def check(self, town: Town) -> None:
        """At every event."""
        newest = self.newest()
        if newest is None:
            return
        assert newest.step >= self.best  # what was durable once never goes back
        self.best = newest.step

    def newest(self) -> Manifest | None:
        found = [one for one in self.worker.vault.protector.snapshots(self.lease.task) if one.is_durable]
        return found[-1].manifest if found else None

    def may_hurt(self) -> bool:
        """Losses ≤ n − k: three holders, of codes that were durable with eleven or fourteen."""
        return len(self.hurt) < 3

    @rule(number=st.integers(3, PEERS - 1), fault=st.sampled_from(["down", "is_hung", "is_withholding", "disk"]))
    def fail(self, number: int, fault: str) -> None:
        if not self.may_hurt() or number in self.hurt:
            return
        self.hurt.add(number)
        member = self.town.all[number]
        if fault == "down":
            member.is_up = False
        elif fault == "disk":
            member.disk = 1
            member.blobs.clear()
        else:
            setattr(member, fault, True)

    @rule()
    def heal(self) -> None:
        for number in sorted(self.hurt)[:1]:
            member = self.town.all[number]
            member.is_up, member.is_hung, member.is_withholding, member.disk = True, False, False, 1 << 40
            self.town.run(2 * MINUTE)  # its shards count again once a newer snapshot is spread
            self.hurt.discard(number)

    @rule(fault=st.sampled_from(["is_lying", "is_hung", "is_withholding"]), on=st.booleans())
    def standby_fails(self, fault: str, on: bool) -> None:
        setattr(self.standby, fault, on)

    @rule(number=st.integers(3, PEERS - 1))
    def restart(self, number: int) -> None:
        """A holder's process ends and begins again with its records."""
        member = self.town.all[number]
        if member.is_up and not member.is_hung:
            self.town.wire(member)

    @rule(hold=st.booleans())
    def cut_now(self, hold: bool) -> None:
        protector = self.worker.vault.protector
        self.town.command(self.worker, lambda now: protector.cut_now(self.lease.task, hold, now))

    @rule(span=st.integers(1, 90))
    def wait(self, span: int) -> None:
        self.town.run(span * SECOND)

    @invariant()
    def the_newest_durable_snapshot_can_be_had(self) -> None:
        if not hasattr(self, "town"):
            return
        newest = self.newest()
        if newest is not None:
            for pack in newest.packs:
                assert self.town.reachable(pack, frozenset([self.worker.id, self.standby.id])) >= pack.k

    @invariant()
    def surplus_is_bounded(self) -> None:
        if not hasattr(self, "town"):
            return
        kept = self.worker.vault.protector.snapshots(self.lease.task)
        durable = [one for one in kept if one.is_durable]
        assert len(durable) <= 8  # two, an anchor, and those that wait for a proof

    def teardown(self) -> None:
        if not hasattr(self, "town"):
            return
        for member in self.town.all:
            heal(member)
        before = self.best
        self.town.run(6 * MINUTE)
        assert self.best > before  # and it always goes on


def heal(member: Member) -> None:
    member.is_up, member.disk = True, 1 << 40
    member.is_hung = member.is_lying = member.is_withholding = False


Churn.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow]
)
TestChurn = Churn.TestCase


def test_a_slow_holder_delays_nobody() -> None:
    """Of 21 holders three take minutes; the snapshot is durable in seconds, and stragglers are told to stop."""
    town = Town(24, state_bytes=2 * MIB)
    worker, standby, steward = town.all[:3]
    standby.rate = 100 * MIB
    lease = town.begin(worker, standby, steward)
    town.run(12 * SECOND)
    for slow in town.all[4:7]:
        slow.is_hung = True
    step = lease.durable_step
    began = town.now
    assert town.run(5 * MINUTE, lambda: lease.durable_step > step + 10)
    assert town.now - began < 60 * SECOND


def test_the_worker_uploads_a_snapshot_once_where_a_standby_helps() -> None:
    town = Town(24)
    worker, standby, steward = town.all[:3]
    lease = town.begin(worker, standby, steward)
    uploaded: dict[bytes, int] = {}
    fetch = town.fetch

    def counted(member: Member, work: object) -> None:
        source = town.members[work.sources[0]]  # type: ignore[attr-defined]
        uploaded[source.id] = uploaded.get(source.id, 0) + work.size_max  # type: ignore[attr-defined]
        fetch(member, work)  # type: ignore[arg-type]

    town.fetch = counted  # type: ignore[method-assign]
    town.run(MINUTE, lambda: lease.durable_step >= 20)
    town.run(3 * SECOND)
    cut = worker.step // 10
    assert uploaded[worker.id] == cut * 4_000
    assert uploaded[standby.id] >= cut * 4_000
