"""Whole worlds: the same every time, phase after phase, and alike at every level of detail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from simulations.observer import Observer
from simulations.scenario import NS, Adversary, Chatter, Churn, Fault, Group, Population, Scenario, Topology, Workload
from simulations.simpeer import SimPeer
from simulations.violation import Violation
from simulations.world import World
from tests.simulations.small import PROVIDER, VALIDATOR, awake, ends, load, planned, ran, records, scenario

ROOT = Path(__file__).parents[2]

RICH = Scenario(
    name="rich",
    simulation=planned(60, 30, gossip="gossipsub"),
    topology=Topology(jitter=0.1, loss=0.01, replay=0.02, nat={"public": 0.5, "cone": 0.3, "symmetric": 0.2}),
    population=Population(
        stewards=Group(n=2, slots=0),
        providers=Group(
            n=10,
            churn=Churn(model="weibull", k=0.6, scale=60 * NS, down=10 * NS),
            price_spread=0.3,
            undercut=0.1,
            straggle=0.1,
            corrupt=0.05,
        ),
    ),
    workload=Workload(jobs=load(seconds=4, limit=4, reduce=True), messages=Chatter(per_second=1.0)),
    faults=(
        Fault(kind="partition", at=10 * NS, every=20 * NS, last=5 * NS),
        Fault(kind="kill", at=12 * NS, every=15 * NS, n=1, role="steward", last=5 * NS, amount=0.5),
        Fault(kind="kill", at=33 * NS, n=1, role="validator", last=3 * NS, amount=1.0),
        Fault(kind="clock", at=5 * NS, share=0.2, amount=3.0, drift_ppm=200.0),
        Fault(kind="clog", at=15 * NS, n=2, amount=0.2, last=10 * NS),
        Fault(kind="disk", at=20 * NS, n=1, disk="lost", last=10 * NS),
        Fault(kind="loss", at=30 * NS, amount=0.1, last=10 * NS),
        Fault(kind="corrupt", at=5 * NS, n=2, amount=0.5),
    ),
    adversaries=(
        Adversary(strategy="result-copier", n=1),
        Adversary(strategy="double-claimer", n=1),
        Adversary(strategy="censor", n=1, at=20 * NS),
    ),
)
"""Something of everything: adversaries, and every kind of fault."""

PROGRAM = """
import sys
from tests.simulations.test_world import RICH
from tests.simulations.small import measured
from simulations.attack_account import AttackAccount
from simulations.meter import Meter
from simulations.world import World
world = World(RICH, int(sys.argv[1]), observers=[Meter(), AttackAccount()])
world.run()
for part in (*measured(world), world.events, world.network.bytes_sent, world.injections):
    print(part)
print([(name, found.buckets()) for name, found in world.recorder.histograms().items()])
"""


def printed(seed: int, hash_seed: str) -> str:
    """What a process of its own says of a run."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seed)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_a_run_hangs_on_scenario_and_seed_and_on_nothing_else() -> None:
    first, again, other = printed(1, "0"), printed(1, "1"), printed(2, "0")
    assert first == again
    assert first.splitlines()[0] != other.splitlines()[0], "another seed is another run"
    counts = first.splitlines()[2]
    for kind in ("partition", "kill", "clock", "clog", "disk", "loss", "corrupt"):
        assert f"'injected/{kind}'" in counts, "every kind of fault was part of it"


def test_the_rich_world_gives_jobs_to_compare() -> None:
    world = World(RICH, 1)
    world.run()
    assert len(records(world)) >= 2 and world.recorder.counts["emit/verdict"] > 4
    assert world.recorder.counts["injected/kill"] >= 4


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("replicas", ["own", "shared"])
@pytest.mark.parametrize("gossip", ["direct", "gossipsub"])
def test_levels_of_detail_change_no_outcome(
    seed: int, replicas: Literal["own", "shared"], gossip: Literal["direct", "gossipsub"]
) -> None:
    world = ran(scenario(load(limit=2, seconds=3), planned(40, 30, replicas=replicas, gossip=gossip)), seed)
    assert [(record.state, ends(record)) for record in records(world)] == [("settled", [["accepted"]] * 4)] * 2
    world.peers[VALIDATOR].machines.ledger.check()


def test_who_shares_a_replica_is_paid_the_same() -> None:
    pay = [
        sum(ran(scenario(plan=planned(replicas=replicas))).recorder.values("payout/honest"))
        for replicas in ("own", "shared")
    ]  # fmt: skip
    assert pay[0] > 0 and abs(pay[0] - pay[1]) < pay[0] / 10


def test_a_world_with_several_validators_agrees() -> None:
    world = ran(scenario(load(limit=1, seconds=2), planned(30, 30), validators=4))
    roots = {(peer.machines.ledger.height, peer.machines.ledger.root) for peer in world.peers[:4]}
    assert len({root for _, root in roots}) <= 2 and world.recorder.counts["emit/block"] > 8
    assert world.recorder.counts["jobs/settled"] == 1, "the judges' signatures were added up"


class Order(Observer):
    """What observers hear, in order."""

    def __init__(self, ends_at: int = -1) -> None:
        self.heard: list[tuple[str, int]] = []
        self._ends_at = ends_at

    def started(self, world: World) -> None:
        assert world.queue.now == 0 and not any(peer.is_up for peer in world.peers)
        self.heard.append(("started", 0))

    def moved(self, peer: SimPeer, is_up: bool, now: int) -> None:
        self.heard.append(("moved", now))

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        assert arrives == -1 or arrives > now
        self.heard.append(("sent", now))

    def handled(self, peer: SimPeer, cause: object, effects: object, now: int) -> None:
        self.heard.append(("handled", now))

    def second(self, now: int) -> None:
        self.heard.append(("second", now))
        if now == self._ends_at:
            raise Violation("order", "enough", now=now)

    def finished(self, now: int) -> None:
        self.heard.append(("finished", now))


def test_observers_hear_of_everything_in_order() -> None:
    order = Order()
    World(scenario(plan=planned(10, 5)), 1, (), [order]).run()
    names = [name for name, _ in order.heard]
    times = [now for _, now in order.heard]
    assert names[0] == "started" and names[-1] == "finished" and times == sorted(times)
    assert [now for name, now in order.heard if name == "second"] == [number * NS for number in range(1, 16)]
    assert {"moved", "sent", "handled"} < set(names)


def test_a_phase_may_end_between_two_seconds() -> None:
    order = Order()
    World(scenario(jobs=None, plan=planned(2.5, 1.25)), 1, (), [order]).run()
    seconds = [now for name, now in order.heard if name == "second"]
    assert seconds == [NS, 2 * NS, round(2.5 * NS), 3 * NS, round(3.75 * NS)]
    assert order.heard[-1] == ("finished", round(3.75 * NS))


def test_a_violation_ends_the_run() -> None:
    order = Order(ends_at=3 * NS)
    world = World(scenario(), 1, (), [order])
    with pytest.raises(Violation, match="enough"):
        world.run()
    assert world.queue.now == 3 * NS and order.heard[-1] == ("second", 3 * NS)


def test_a_settle_phase_ends_when_nothing_is_left() -> None:
    world = World(scenario(jobs=None, plan=planned(5, 60)), 1, ())
    world.run(is_over=lambda now: now >= 2 * NS)
    assert world.queue.now == 6 * NS, "asked in the settle phase only"


def test_faults_come_from_the_scenario_unless_they_are_given() -> None:
    given = scenario(faults=(Fault(kind="kill", at=10 * NS, every=10 * NS, n=1),))
    assert [item.at for item in World(given, 1).injections] == [10 * NS, 20 * NS, 30 * NS]
    assert World(given, 1, ()).injections == []
    assert World(given, 1).injections == World(given, 1).injections


def test_leaving_out_a_fault_leaves_the_rest_as_it_was() -> None:
    given = scenario(faults=(Fault(kind="kill", at=10 * NS, every=10 * NS, n=1),))
    items = World(given, 1).injections
    whole, less = World(given, 1, items), World(given, 1, items[:2])
    halves: list[str] = []
    for world in (whole, less):
        world.queue.at(30 * NS - 1, lambda _, world=world: halves.append(world.driver.auditor.hexdigest()), None)  # type: ignore[misc]
        world.run()
    assert halves[0] == halves[1]
    assert whole.driver.auditor.hexdigest() != less.driver.auditor.hexdigest()


def test_direct_gossip_reaches_all_but_who_is_cut_off() -> None:
    world = awake(scenario(jobs=None))
    heard: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.driver, "hear", lambda peer, signer, body, code: heard.append(peer.index))
        world.network.cut([PROVIDER], 60 * NS, False, 0)
        peer = world.peers[VALIDATOR]
        world.driver.command(peer, peer.machines.maker, lambda now: peer.machines.maker.withdraw(now))
        world.queue.run(NS // 2)
    assert heard.count(PROVIDER) == 0 and {0, 1, 3, 4, 5, 6, 7} <= set(heard)


def test_progress_is_told_each_second() -> None:
    world, seen = World(scenario(jobs=None, plan=planned(5, 0)), 1, ()), list[int]()
    world.run(seen.append)
    assert seen == [number * NS for number in range(1, 6)] and world.events == world.queue.executed > 0
