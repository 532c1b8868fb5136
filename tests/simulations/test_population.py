"""Who lives in a world: the same people for the same seed, with money where it is needed."""

from __future__ import annotations

from simulations.clock import START
from simulations.population import FUNDS, births
from simulations.scenario import NS, Group
from simulations.world import World
from tests.simulations.small import planned, scenario


def test_validators_come_first_then_stewards_then_providers() -> None:
    people = births(scenario(validators=2, stewards=Group(n=2, slots=0), providers=Group(n=3)))
    assert [birth.name for birth in people] == [
        "validator-0", "validator-1", "steward-0", "steward-1", "provider-0", "provider-1", "provider-2",
    ]  # fmt: skip


def test_identities_hang_on_seed_and_name_only() -> None:
    small, large = World(scenario(), 1, ()), World(scenario(providers=Group(n=20, gpus="uniform")), 1, ())
    other = World(scenario(), 2, ())
    ids = {peer.name: peer.id for peer in large.peers}
    assert all(ids[peer.name] == peer.id for peer in small.peers)
    assert not {peer.id for peer in small.peers} & {peer.id for peer in other.peers}
    assert len(set(ids.values())) == 22


def test_genesis_gives_stakes_to_all_and_funds_to_stewards() -> None:
    world = World(scenario(validators=3), 1, ())
    genesis = world.genesis
    assert [power for _, power in genesis.validators] == [1, 1, 1] and genesis.time == START
    stakes = {owner: amount for kind, owner, amount in genesis.balances if kind == "S"}
    funds = {owner: amount for kind, owner, amount in genesis.balances if kind == "U"}
    assert set(stakes) == {peer.id for peer in world.peers} and set(stakes.values()) == {100_000_000}
    assert funds == {peer.id: FUNDS for peer in world.peers if peer.role == "steward"}


def test_the_peer_whose_ledger_is_shared_owns_nothing() -> None:
    world = World(scenario(plan=planned(replicas="shared")), 1, ())
    replica = world.peers[-1]
    assert replica.name == "replica-0" and not replica.is_carrying
    assert replica.id not in {owner for _, owner, _ in world.genesis.balances}


def test_clocks_are_nearly_right_and_not_alike() -> None:
    world = World(scenario(providers=Group(n=50, gpus="uniform")), 1, ())
    offsets = [(peer.clock.read(0) - START) / 1_000 for peer in world.peers]
    assert len(set(offsets)) > 45 and all(abs(offset) < 250 for offset in offsets)
    assert any(offset < 0 for offset in offsets) and any(offset > 0 for offset in offsets)


def test_prices_spread_around_their_median() -> None:
    world = World(scenario(providers=Group(n=101, gpus="uniform", price=1_000_000, price_spread=0.5)), 1, ())
    prices = sorted(peer.terms.price_per_hour for peer in world.peers if peer.role == "provider")
    assert 800_000 < prices[50] < 1_250_000 and prices[0] < 500_000 and prices[-1] > 2_000_000


def test_offers_do_not_come_at_the_same_time() -> None:
    world = World(scenario(providers=Group(n=20, gpus="uniform", offer_interval=30 * NS)), 1, ())
    intervals = [peer.offer_interval for peer in world.peers if peer.role == "provider"]
    assert len(set(intervals)) == 20 and all(27_000_000 <= one <= 33_000_000 for one in intervals)


def test_only_providers_have_slots_and_only_others_keep_a_book() -> None:
    world = World(scenario(providers=Group(n=2, slots=4, gpus="uniform")), 1, ())
    assert [peer.terms.slots for peer in world.peers] == [0, 0, 4, 4]
    assert [peer.keeps_book for peer in world.peers] == [True, True, False, False]
    assert [peer.terms.price_per_hour > 0 for peer in world.peers] == [False, False, True, True]


def test_cards_are_dealt_from_the_mix() -> None:
    alike = World(scenario(), 1, ())
    mixed = World(scenario(providers=Group(n=40, gpus="steam-2024")), 1, ())
    assert len({peer.computer.gpu.name for peer in alike.peers if peer.role == "provider"}) == 1
    assert len({peer.computer.gpu.name for peer in mixed.peers if peer.role == "provider"}) > 8
