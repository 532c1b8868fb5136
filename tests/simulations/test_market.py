"""Offers: in every book at once at time 0, true within a second, lower when nobody comes."""

from __future__ import annotations

from protocol.units import Micros
from simulations.market import FLOOR_SHARE, IDLE_NS
from simulations.scenario import NS, Group
from simulations.world import World
from tests.simulations.small import PROVIDER, STEWARD, VALIDATOR, kill, load, planned, ran, records, scenario


def free(world: World, at: int = STEWARD) -> dict[int, int]:
    """Free slots of each provider, as a peer's book knows them."""
    peer = world.peers[at]
    offers = peer.machines.offers.offers(peer.clock.read(world.queue.now))
    return {item.index: offers[item.id].slots_free for item in world.peers[PROVIDER:] if item.id in offers}


def test_a_world_begins_with_every_offer_known() -> None:
    world = World(scenario(jobs=None, plan=planned(10, 0)), 1, ())
    seen: list[dict[int, int]] = []
    world.queue.at(1_000, lambda _: seen.extend([free(world), free(world, VALIDATOR)]), None)
    world.run()
    assert seen == [dict.fromkeys(range(PROVIDER, 8), 1)] * 2


def test_who_comes_later_is_known_too() -> None:
    world = ran(scenario(jobs=None, plan=planned(60, 0)), 1, [kill(2, 45, PROVIDER)])
    assert PROVIDER in free(world)


def test_an_offer_follows_the_free_slots() -> None:
    world = World(scenario(load(seconds=15), planned(60, 0)), 1, ())
    seen: list[list[int]] = []
    for second in (4, 10, 55):
        world.queue.at(second * NS, lambda _: seen.append(sorted(free(world).values())), None)
    world.run()
    assert seen[0] == [1] * 6 and seen[1] == [0, 0, 0, 0, 1, 1] and seen[2] == [1] * 6
    assert [record.state for record in records(world)] == ["settled"]


def test_who_is_idle_lowers_its_price_to_a_tenth_and_no_further() -> None:
    group = Group(n=2, gpus="uniform", price=1_000_000, undercut=0.5)
    world = World(scenario(jobs=None, plan=planned(10 * 60, 0), providers=group), 1, ())
    prices: list[int] = []

    def look(_: None) -> None:
        terms = world.peers[PROVIDER].machines.maker.terms
        assert terms is not None
        prices.append(terms.price_per_hour)

    for minute in range(10):
        world.queue.at(minute * IDLE_NS + NS, look, None)
    world.run()
    assert prices[:4] == [1_000_000, 500_000, 250_000, 125_000]
    assert set(prices[4:]) == {1_000_000 // FLOOR_SHARE}
    offers = world.peers[STEWARD].machines.offers.offers(Micros(world.peers[STEWARD].clock.read(world.queue.now)))
    assert offers[world.peers[PROVIDER].id].price_per_hour == 100_000, "and everybody knows"


def test_who_does_not_undercut_keeps_its_price() -> None:
    world = ran(scenario(jobs=None, plan=planned(3 * 60, 0), providers=Group(n=2, gpus="uniform")))
    terms = world.peers[PROVIDER].machines.maker.terms
    assert terms is not None and terms.price_per_hour == 500_000


def test_a_price_warrior_that_restarts_begins_at_its_first_price() -> None:
    group = Group(n=1, gpus="uniform", price=1_000_000, undercut=0.5)
    world = World(scenario(jobs=None, plan=planned(200, 0), providers=group), 1, [kill(130, 2, PROVIDER)])
    world.run()
    terms = world.peers[PROVIDER].machines.maker.terms
    assert terms is not None and terms.price_per_hour == 500_000, "one idle minute since the restart"
