"""Pull on gap in whole worlds: who starts again knows the market at once, and who was cut off learns what it missed."""

from __future__ import annotations

import pytest

from simulations.scenario import NS
from simulations.world import World
from tests.simulations.small import STEWARD, VALIDATOR, built, cut, kill, planned, scenario


def offers(world: World, who: int) -> int:
    """How many live offers a peer knows."""
    peer = world.peers[who]
    return len(peer.machines.offers.offers(peer.clock.read(world.queue.now)))


@pytest.mark.parametrize("gossip", ["direct", "gossipsub"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_steward_that_starts_again_knows_the_market_within_a_second(gossip: str, seed: int) -> None:
    plan = planned(20, 0, gossip="gossipsub" if gossip == "gossipsub" else "direct")
    world = built(scenario(jobs=None, plan=plan), seed, [kill(11.5, 3, STEWARD)])
    seen: list[int] = []
    for second in (11.0, 14.45, 15.5):
        world.queue.at(int(second * NS), lambda _: seen.append(offers(world, STEWARD)), None)
    world.run()
    assert seen[0] == seen[2] == len(world.peers)
    assert world.peers[STEWARD].boots == 2


def test_a_steward_that_was_cut_off_learns_what_it_missed() -> None:
    """Providers come while nobody can tell it; after the cut it is told of them within a few seconds."""
    world = built(scenario(jobs=None, plan=planned(100, 0)), 1, [cut(5, 62, STEWARD), kill(20, 60, *range(5, 8))])
    seen: list[int] = []
    for second in (66.0, 72.0):
        world.queue.at(int(second * NS), lambda _: seen.append(offers(world, STEWARD)), None)
    world.run()
    assert seen[0] <= 1, "all offers have expired"
    assert seen[1] >= offers(world, VALIDATOR) - 3
