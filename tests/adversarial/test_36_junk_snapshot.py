"""Attack 36: hand a chunk over with a snapshot that nobody can go on from, and be paid for the units signed for.

The steward opens the snapshot before it signs, and keeps what it has opened: worlds of the simulator, with and without.
"""

from __future__ import annotations

from collections import Counter

import pytest

from protocol.effects import Effect, Emit
from protocol.examination import Examinations
from simulations.adversaries.junk_snapshot import JunkSnapshot
from simulations.checkers.registry import checkers
from simulations.observer import Observer
from simulations.scenario import NS, Adversary, Fault
from simulations.simpeer import SimPeer
from simulations.world import World
from tests.simulations.test_checker_of_heirs import worked

LEAVES = Fault(kind="reclaim", at=16 * NS, every=8 * NS, role="provider", n=1, last=32 * NS, amount=10.0)


class Looks(Observer):
    """What stewards found, and how handovers ended."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self.ends: Counter[tuple[str, str]] = Counter()

    def handled(self, peer: SimPeer, cause: object, effects: list[Effect], now: int) -> None:
        for effect in effects:
            if isinstance(effect, Emit) and effect.name == "examined":
                self.found[str(effect.fields["code"])] += 1
            if (
                isinstance(effect, Emit)
                and effect.name == "handover"
                and effect.fields["phase"] in ("handed", "given_back")
            ):
                self.ends[str(effect.fields["phase"]), str(effect.fields["reason"])] += 1


def lived(*adversaries: Adversary, faults: tuple[Fault, ...] = ()) -> tuple[World, Looks]:
    """No rule is broken, and every job has its result."""
    given, looks = worked(*adversaries, faults=faults), Looks()
    world = World(given, 2, None, [*checkers(given.simulation.checks), looks])
    world.run()
    records = [job.record for peer in world.peers for job in peer.machines.steward.jobs.values()]
    assert records and all(record.state == "settled" for record in records)
    assert not any(chunk.opened for record in records for chunk in record.chunks)
    return world, looks


def junk(**options: float) -> Adversary:
    return Adversary(strategy="junk-snapshot", n=3, options={"junk": 1, "away": 30, **options})


def shares(world: World) -> list[tuple[bool, str, int]]:
    """(whether it is a cheat's, what became of it, smallest units) of every share that was handed over."""
    cheats = {peer.id for peer in world.peers if isinstance(peer.strategy, JunkSnapshot)}
    chunks = [chunk for one in world.peers[0].machines.ledger.escrows.values() for chunk in one.chunks.values()]
    return [(item.provider in cheats, item.outcome, item.amount) for chunk in chunks for item in chunk.carried]


def said_to_cheats(world: World) -> Counter[str]:
    deeds: Counter[str] = Counter()
    for peer in world.peers:
        if isinstance(peer.strategy, JunkSnapshot):
            deeds.update(peer.strategy.deeds)
    return deeds


def test_a_snapshot_that_opens_for_nobody_is_worth_nothing() -> None:
    world, looks = lived(junk())
    assert shares(world) == []
    assert set(looks.found) == {"snapshot_bad"} and looks.found["snapshot_bad"] >= 3
    assert looks.ends == {("given_back", "snapshot_bad"): looks.found["snapshot_bad"]}
    said = said_to_cheats(world)
    assert said["snapshot_bad"] and not said["signed"]


def test_without_the_look_it_was_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Examinations, "ask", lambda *_: ("", []))
    world, looks = lived(junk())
    paid = [amount for is_cheats, outcome, amount in shares(world) if is_cheats and outcome == "paid"]
    assert sum(paid) > 0 and not looks.found


def test_a_snapshot_of_invented_units_that_opens_is_gone_on_from_and_its_maker_pays() -> None:
    world, looks = lived(junk(junk=0))
    handed = shares(world)
    assert handed and all(item[:2] == (True, "void") for item in handed)
    assert set(looks.found) == {""} and said_to_cheats(world)["signed"] >= len(handed)
    standings = world.peers[0].machines.ledger.standings
    guilty = {peer.id for peer in world.peers if peer.id in standings and standings[peer.id].wrong}
    assert guilty and guilty <= {peer.id for peer in world.peers if isinstance(peer.strategy, JunkSnapshot)}


def test_the_honest_twin_is_paid_for_what_it_did() -> None:
    world, looks = lived(faults=(LEAVES,))
    handed = shares(world)
    assert handed and all(not is_cheats and outcome == "paid" and amount for is_cheats, outcome, amount in handed)
    assert set(looks.found) == {""} and looks.ends == {("handed", ""): len(handed)}
