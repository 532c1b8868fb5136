"""Faults happen when they should, to whom they should, and end."""

from __future__ import annotations

import msgspec
import pytest

from simulations.observer import Observer
from simulations.packets import SURVIVES
from simulations.scenario import NS, Group, Injection
from simulations.world import World
from tests.simulations.small import PROVIDER, STEWARD, VALIDATOR, cut, kill, planned, ran, records, scenario, spoil

IDLE = scenario(jobs=None, plan=planned(30, 0))


class Log(Observer):
    """Injections as they begin."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Injection]] = []

    def injected(self, injection: Injection, now: int) -> None:
        self.seen.append((now, injection))


def looked(item: Injection, look: str, *times: float) -> list[object]:
    """What an expression over the world `w` gives at these times, s, while a fault happens."""
    world = World(IDLE, 1, [item])
    seen: list[object] = []
    for time in times:
        world.queue.at(round(time * NS), lambda _: seen.append(LOOKS[look](world)), None)
    world.run()
    return seen


def _shown(world: World) -> int:
    """Seconds by which the provider's clock is ahead of what it showed at the start."""
    peer = world.peers[PROVIDER]
    return round((peer.clock.read(world.queue.now) - peer.clock.read(0)) / 1_000_000 - world.queue.now / NS)


def _delay(world: World) -> int:
    """Milliseconds from the steward to a provider, to the next ten."""
    now = world.queue.now
    return round((world.network.arrival(STEWARD, PROVIDER, 100, now) - now) / 1e7) * 10


LOOKS = {
    "lies": lambda world: world.peers[PROVIDER].disk.lies,
    "room": lambda world: world.peers[PROVIDER].disk.bytes_max > 0,
    "corrupt": lambda world: world.peers[PROVIDER].computer.corrupt,
    "up": lambda world: world.peers[PROVIDER].is_up,
    "out": lambda world: world.network.can_reach(PROVIDER, VALIDATOR, world.queue.now),
    "in": lambda world: world.network.arrival(VALIDATOR, PROVIDER, 1, world.queue.now) > 0,
    "leaves": lambda world: world.network.arrival(PROVIDER, VALIDATOR, 1, world.queue.now) > 0,
    "delay": _delay,
    "clock": _shown,
}


def fault(kind: str, **values: object) -> Injection:
    """From second 10 to second 20, at the first provider."""
    given: dict[str, object] = {"number": 0, "at": 10 * NS, "until": 20 * NS, "kind": kind, "peers": (PROVIDER,)}
    return Injection(**(given | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "look", "seen"),
    [
        (fault("kill"), "up", [True, False, True]),
        (fault("disk", disk="lost"), "lies", [False, True, False]),
        (fault("disk", disk="full"), "room", [False, True, False]),
        (fault("corrupt", amount=0.25), "corrupt", [0.0, 0.25, 0.0]),
        (fault("partition"), "out", [True, False, True]),
        (fault("partition", one_way=True), "in", [True, True, True]),
        (fault("partition", one_way=True, until=25 * NS), "leaves", [True, False, False]),
        (fault("clog", amount=0.5), "delay", [20, 520, 20]),
    ],
    ids=["kill", "lost", "full", "corrupt", "partition", "one way in", "one way out", "clog"],
)
def test_a_fault_begins_and_ends(item: Injection, look: str, seen: list[object]) -> None:
    assert looked(item, look, 9.5, 15, 20.5) == seen


def test_the_end_of_one_fault_is_not_the_end_of_another() -> None:
    world = World(
        IDLE, 1, [spoil("full", 5, 20, PROVIDER), fault("corrupt", amount=0.5), spoil("lost", 6, 2, PROVIDER)]
    )
    seen: list[bool] = []
    world.queue.at(22 * NS, lambda _: seen.append(world.peers[PROVIDER].disk.bytes_max > 0), None)
    world.run()
    assert seen == [True]


def test_a_clock_that_jumps_is_seen_after_a_restart() -> None:
    world = World(IDLE, 1, [fault("clock", amount=-288.0), kill(15, 5, PROVIDER)])
    seen: list[int] = []
    peer = world.peers[PROVIDER]
    start: list[int] = []
    world.queue.at(1, lambda _: start.append(peer.clock.read(0)), None)
    for second in (12, 22):
        world.queue.at(
            second * NS,
            lambda _: seen.append(round((peer.clock.read(world.queue.now) - start[0]) / 1e6 - world.queue.now / NS)),
            None,
        )
    world.run()
    assert seen == [0, -288]


def test_a_clock_that_drifts_goes_its_own_way_from_then_on() -> None:
    world = World(IDLE, 1, [fault("clock", drift_ppm=50_000.0)])
    peer, seen = world.peers[PROVIDER], list[float]()
    for second in (10, 20, 30):
        world.queue.at(second * NS, lambda _: seen.append(peer.clock.read(world.queue.now) / 1e6), None)
    world.run()
    assert round(seen[1] - seen[0], 3) == round(seen[2] - seen[1], 3) == 10.5


def test_loss_makes_everybody_slower_and_loses_nothing() -> None:
    item = fault("loss", amount=0.4, peers=())
    world = ran(scenario(plan=planned(60, 60)), 1, [item])
    assert [record.state for record in records(world)] == ["settled"]
    assert "messages/lost" not in world.recorder.counts or world.recorder.counts["messages/lost"] < 20


def test_rot_changes_a_disk_and_nothing_says_so() -> None:
    world = World(scenario(plan=planned(20, 0)), 1, [fault("disk", disk="rot", peers=(VALIDATOR,))])
    before: list[object] = []
    disk = world.peers[VALIDATOR].disk
    world.queue.at(10 * NS - 1, lambda _: before.extend([list(disk.journal), disk.records(), _hurt(world)]), None)
    after: list[object] = []
    world.queue.at(10 * NS + 1, lambda _: after.extend([list(disk.journal), disk.records(), _hurt(world)]), None)
    world.run()
    assert before != after


def _hurt(world: World) -> str:
    """Whether the journal opens."""
    try:
        world.peers[VALIDATOR].disk.blocks()
    except Exception as error:  # noqa: BLE001  Which one is the disk's affair.
        return repr(error)
    return ""


def test_observers_and_counts_tell_of_every_fault() -> None:
    log = Log()
    items = [kill(3, 2, PROVIDER), cut(8, 2, STEWARD)]
    world = ran(IDLE, 1, items, log)
    assert log.seen == [(item.at, item) for item in items]
    assert world.recorder.counts["injected/kill"] == world.recorder.counts["injected/partition"] == 1
    assert world.injector.stopped_at == 10 * NS


@pytest.mark.parametrize("last", [SURVIVES / NS - 1, SURVIVES / NS + 2], ids=["shorter", "longer"])
@pytest.mark.parametrize("who", [(STEWARD,), (VALIDATOR,), (PROVIDER, PROVIDER + 1)], ids=["steward", "validator", "2"])
def test_a_partition_shorter_or_longer_than_a_connection_survives(last: float, who: tuple[int, ...]) -> None:
    world = ran(scenario(plan=planned(60, 60)), 1, [cut(9, last, *who)])
    assert [record.state for record in records(world)] == ["settled"]
    lost = world.recorder.counts.get("messages/lost", 0)
    assert (lost > 0) == (last > SURVIVES / NS), "what is sent into a short one arrives behind it"


@pytest.mark.parametrize("first", [(VALIDATOR,), (STEWARD,), (PROVIDER,)])
def test_a_partition_in_one_direction(first: tuple[int, ...]) -> None:
    world = ran(scenario(plan=planned(60, 60)), 1, [cut(9, 15, *first, one_way=True)])
    assert [record.state for record in records(world)] == ["settled"]


def test_power_cuts_are_a_share_of_kills() -> None:
    items = [kill(4 + number, 0.5, PROVIDER + number % 6) for number in range(20)]
    halves = [msgspec.structs.replace(item, amount=0.5) for item in items]
    world = World(scenario(jobs=None, plan=planned(30, 5), providers=Group(n=6, gpus="uniform")), 1, halves)
    torn: list[bool] = []
    stop = world.lifecycle.stop

    def counted(index: int, until: int, torn_one: bool = False, **more: bool) -> None:
        torn.append(more.get("torn", torn_one))
        stop(index, until, torn[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.lifecycle, "stop", counted)
        world.run()
    assert len(torn) == 20 and 4 <= sum(torn) <= 16
