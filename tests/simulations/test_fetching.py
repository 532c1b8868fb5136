"""Blobs on their way: one source after the other, and the files of a manifest behind it."""

from __future__ import annotations

from protocol import wire
from protocol.completions import Fetched, FetchFailed
from protocol.effects import Fetch
from protocol.jobspec import Manifest, OutputFile
from protocol.units import Digest, PeerId
from simulations.fetching import STALL_NS, Fetching
from simulations.scenario import NS, Group, Topology
from simulations.strategy import Strategy
from simulations.world import World
from tests.simulations.small import PROVIDER, STEWARD, Answers, awake, scenario

DELAY = 20_000_000
BLOB = b"content"


def fetching() -> tuple[World, Fetching, Answers]:
    """Idle peers 20 ms apart, and a service that brings blobs to them."""
    topology = Topology(latency="uniform", delay=DELAY, jitter=0.0)
    world = awake(scenario(jobs=None, topology=topology, providers=Group(n=4, gpus="uniform")))
    answers = Answers(world)
    index: dict[bytes, int] = {peer.id: peer.index for peer in world.peers}
    return world, Fetching(world.queue, world.network, world.library, world.peers, index, answers.give), answers


def wanted(world: World, digest: Digest, *sources: int, is_output: bool = False) -> Fetch:
    """An order to bring a blob from these peers."""
    return Fetch(digest, 1 << 40, tuple(world.peers[source].id for source in sources), is_output)


def test_a_blob_comes_after_a_round_trip() -> None:
    world, service, answers = fetching()
    digest = world.library.put(PROVIDER, BLOB)
    service.fetch(world.peers[STEWARD], wanted(world, digest, PROVIDER))
    world.queue.run(NS)
    ((at, completion),) = answers.given
    assert completion == Fetched(digest, len(BLOB)) and 2 * DELAY <= at < 4 * DELAY
    assert world.library.read(STEWARD, digest) == BLOB
    assert not world.peers[STEWARD].fetching


def test_what_is_here_already_costs_no_time() -> None:
    world, service, answers = fetching()
    digest = world.library.put(STEWARD, BLOB)
    service.fetch(world.peers[STEWARD], wanted(world, digest))
    world.queue.run(0)
    assert answers.given == [(0, Fetched(digest, len(BLOB)))]


def test_the_same_order_twice_is_one_transfer() -> None:
    world, service, answers = fetching()
    digest = world.library.put(PROVIDER, BLOB)
    for _ in range(2):
        service.fetch(world.peers[STEWARD], wanted(world, digest, PROVIDER))
    world.queue.run(NS)
    assert len(answers.given) == 1
    service.fetch(world.peers[STEWARD], wanted(world, digest, PROVIDER))
    world.queue.run(NS)
    assert len(answers.given) == 2, "later it may be asked for again"


def test_a_manifest_brings_its_files() -> None:
    world, service, answers = fetching()
    file = wire.digest(b"a big file")
    world.library.hold(PROVIDER, file, 1 << 30)
    manifest = world.library.put(PROVIDER, wire.encode(Manifest((OutputFile("out.bin", file, 1 << 30),))))
    service.fetch(world.peers[STEWARD], wanted(world, manifest, PROVIDER, is_output=True))
    world.queue.run(NS)
    assert [type(item) for _, item in answers.given] == [Fetched]
    assert world.library.has(STEWARD, manifest) and world.library.has(STEWARD, file)


def test_who_lacks_it_or_is_down_or_refuses_is_passed_over() -> None:
    class Miser(Strategy):
        def serves(self, peer: object, digest: Digest, asker: int, now: int) -> bool:
            return False

    world, service, answers = fetching()
    lacks, down, miser, has = range(PROVIDER, PROVIDER + 4)
    digest = world.library.put(has, BLOB)
    for holder in (down, miser):
        world.library.copy(holder, digest)
    world.lifecycle.kill(world.peers[down], torn=False)
    world.peers[miser].strategy = Miser(0, {})
    service.fetch(world.peers[STEWARD], wanted(world, digest, lacks, down, miser, has))
    world.queue.run(60 * NS)
    ((at, completion),) = answers.given
    assert completion == Fetched(digest, len(BLOB))
    assert STALL_NS < at < STALL_NS + 10 * DELAY, "only who does not answer at all costs the whole patience"


def test_nobody_has_it() -> None:
    world, service, answers = fetching()
    digest = wire.digest(b"nowhere")
    stranger = PeerId(bytes(32))
    service.fetch(world.peers[STEWARD], Fetch(digest, 1, (world.peers[PROVIDER].id, stranger)))
    world.queue.run(NS)
    ((at, completion),) = answers.given
    assert completion == FetchFailed(digest, "nobody has it") and at == 2 * DELAY


def test_a_source_that_dies_in_the_middle_is_replaced() -> None:
    world, service, answers = fetching()
    topology = Topology(latency="uniform", delay=DELAY, jitter=0.0)
    digest = wire.digest(b"large")
    for holder in (PROVIDER, PROVIDER + 1):
        world.library.hold(holder, digest, 1 << 30)
    service.fetch(world.peers[STEWARD], wanted(world, digest, PROVIDER, PROVIDER + 1))
    world.queue.run(topology.delay * 3 // 2)
    world.lifecycle.kill(world.peers[PROVIDER], torn=False)
    world.queue.run(60 * NS)
    assert [item for _, item in answers.given] == [Fetched(digest, 1 << 30)]


def test_who_dies_hears_nothing() -> None:
    world, service, answers = fetching()
    digest = world.library.put(PROVIDER, BLOB)
    steward = world.peers[STEWARD]
    service.fetch(steward, wanted(world, digest, PROVIDER))
    world.queue.run(DELAY)
    world.lifecycle.kill(steward, torn=False)
    world.lifecycle.start(steward)
    world.queue.run(NS)
    assert answers.given == [] and not world.library.has(STEWARD, digest)


def test_a_source_behind_a_partition_costs_patience() -> None:
    world, service, answers = fetching()
    digest = world.library.put(PROVIDER, BLOB)
    world.network.cut([PROVIDER], 60 * NS, False, 0)
    service.fetch(world.peers[STEWARD], wanted(world, digest, PROVIDER))
    world.queue.run(59 * NS)
    assert answers.given == [(STALL_NS, FetchFailed(digest, "nobody has it"))]
