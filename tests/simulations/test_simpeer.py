"""One simulated peer: starts from its disk, and is a stranger to its earlier self in nothing but chance."""

from __future__ import annotations

import msgspec
import pytest

from protocol.errors import LocalError, Refused
from protocol.follower import Follower
from simulations import chance
from simulations.scenario import NS
from simulations.strategy import HONEST
from simulations.workload import job_spec
from simulations.world import World
from tests.simulations.small import JOBS, PROVIDER, STEWARD, VALIDATOR, awake, planned, ran, scenario
from verifier.orderer import Orderer


def test_a_peer_is_down_until_it_boots_and_down_again_when_killed() -> None:
    world = World(scenario(), 1, ())
    peer = world.peers[PROVIDER]
    states = [(peer.is_up, peer.boots)]
    peer.boot(world.genesis, 0)
    states.append((peer.is_up, peer.boots))
    peer.kill()
    states.append((peer.is_up, peer.boots))
    assert states == [(False, 0), (True, 1), (False, 1)] and peer.strategy is HONEST


def test_roles_have_their_machines() -> None:
    world = awake(scenario())
    validator, steward, provider = (world.peers[index].machines for index in (VALIDATOR, STEWARD, PROVIDER))
    assert isinstance(validator.replica, Orderer) and validator.judge is not None
    assert isinstance(steward.replica, Follower) and steward.judge is None
    assert isinstance(provider.replica, Follower) and provider.judge is None
    assert len({id(peer.machines.replica) for peer in world.peers}) == len(world.peers)


def test_shared_replicas_are_one() -> None:
    world = ran(scenario(plan=planned(replicas="shared")))
    validator, *others, owner = world.peers
    assert {id(peer.machines.replica) for peer in others} == {id(owner.machines.replica)}
    assert validator.machines.replica is not owner.machines.replica
    assert owner.machines.ledger.root == validator.machines.ledger.root


def test_a_validator_starts_again_where_its_disk_ends() -> None:
    world = ran(scenario())
    validator = world.peers[VALIDATOR]
    height, root = validator.machines.replica.height, validator.machines.ledger.root
    validator.kill()
    validator.boot(world.genesis, world.queue.now)
    assert height > 5 and (validator.machines.replica.height, validator.machines.ledger.root) == (height, root)
    validator.disk.wipe()
    validator.boot(world.genesis, world.queue.now)
    assert validator.machines.replica.height == 0


def test_a_damaged_journal_is_refused() -> None:
    world = ran(scenario())
    validator, random = world.peers[VALIDATOR], chance.stream(1, "rot")
    validator.kill()
    with pytest.raises((LocalError, Refused)) as caught:
        for _ in range(100):
            validator.disk.rot(random)
            validator.boot(world.genesis, world.queue.now)
    assert caught.value.code in ("journal_damaged", "no_journal", "rotten_journal")


def test_chance_is_new_at_every_start_and_the_same_in_every_run() -> None:
    def draws(boots: int) -> list[float]:
        world = World(scenario(), 1, ())
        peer = world.peers[PROVIDER]
        for _ in range(boots):
            peer.boot(world.genesis, 0)
        outside = peer._outside()
        return [outside.dice().random() for _ in range(3)]

    assert draws(1) == draws(1) and not set(draws(1)) & set(draws(2)) and len(set(draws(1))) == 3


def test_a_host_refuses_what_it_has_no_runtime_for() -> None:
    world = World(scenario(), 1, ())
    peer = world.peers[PROVIDER]
    outside = peer._outside()
    spec = job_spec(JOBS, "job")
    assert outside.executor(spec, world.peers[STEWARD].id) == "bwrap"
    with pytest.raises(Refused, match="no runtime fortran"):
        outside.executor(msgspec.structs.replace(spec, runtime="fortran"), world.peers[STEWARD].id)


def test_clock_and_library_are_the_hosts_own() -> None:
    world = awake(scenario(jobs=None))
    peer = world.peers[PROVIDER]
    outside = peer._outside()
    digest = world.library.put(PROVIDER, b"content")
    assert outside.read(digest) == b"content"
    world.queue.run(7 * NS)
    assert outside.now() == peer.clock.read(7 * NS) == peer.clock.read(0) + 7_000_000
