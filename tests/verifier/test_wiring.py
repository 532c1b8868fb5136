"""Every machine of a peer, wired: who is there, what they share, and where a restarted peer goes on."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Literal

import pytest

from protocol import exposure, wire
from protocol.effects import Compute, Publish, Send, Store
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.escrow_state import Standing
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Capability, JobNotice, Message, Runtime, message_decoder
from protocol.offers import OFFER_INTERVAL, OfferBook, Terms
from protocol.units import CREDIT, GIB, PPM, SECOND, Credits, Digest, JobId, Micros
from tests.protocol.ledger_world import (
    GENESIS,
    OTHER,
    POLICY,
    PROVIDERS,
    RENTER,
    STAKE,
    START,
    STEWARD,
    VALIDATOR,
    World,
    with_policy,
)
from verifier.acquaintance import Acquaintance
from verifier.auditor import Auditor
from verifier.judge import Judge
from verifier.orderer import Orderer
from verifier.views import Facts
from verifier.wiring import Machines, Outside, wire_machines

NOW = Micros(START + SECOND)
CAPABILITY = Capability(8_000, 16 * GIB, 64 * GIB, 1, 1)
TERMS = Terms(
    roles=("provider",),
    capability=CAPABILITY,
    executors=("bwrap",),
    runtimes=(Runtime("python", wire.digest(b"python")),),
    slots=2,
    slots_free=2,
    price_per_hour=Credits(CREDIT),
)
SPEC = JobSpec(
    name="job",
    runtime="python",
    commands=("work",),
    chunks=(Chunk(), Chunk()),
    timeout=Micros(60 * SECOND),
    estimate=Micros(SECOND),
    price_per_hour_max=Credits(10 * CREDIT),
    spend_cap=Credits(100 * CREDIT),
)


def outside(**changes: object) -> Outside:
    """A host without blobs whose clock stands at NOW."""

    def read(digest: Digest) -> bytes:
        raise Unavailable("no blobs here", code="no_blob")

    given = Outside(
        read=read,
        executor=lambda spec, renter: "bwrap",
        capability=CAPABILITY,
        audits_at_once=1,
        now=lambda: NOW,
        dice=lambda: Random(1),
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def wired(identity: Identity, genesis: Genesis = GENESIS, **changes: object) -> Machines:
    """A peer's machines."""
    return wire_machines(identity, genesis, outside(**changes))


def offer(identity: Identity, machines: Machines | None = None, terms: Terms = TERMS) -> Message:
    """A peer's first offer, as others decode it."""
    effects = (machines or wired(identity)).offer(terms, NOW)
    (statement,) = [effect.statement for effect in effects if isinstance(effect, Publish)]
    assert statement.signer == identity.peer
    return wire.decode(statement.body, message_decoder, identity.peer)


def test_validators_order_and_judge_and_others_follow() -> None:
    validator, provider = wired(VALIDATOR), wired(PROVIDERS[0])
    assert isinstance(validator.replica, Orderer) and isinstance(validator.judge, Judge)
    assert isinstance(provider.replica, Follower) and provider.judge is None
    assert isinstance(provider.auditor, Auditor), "who is asked to compare results need not be a validator"
    assert len(validator.listed) == 16 and len(provider.listed) == 13


def test_the_replica_hears_first_and_everybody_reads_it() -> None:
    machines = wired(PROVIDERS[0])
    assert machines.listed[0] is machines.replica
    assert machines.ledger is machines.replica.ledger
    assert len({id(machine) for machine in machines.listed}) == len(machines.listed)


def test_a_peer_is_all_of_them() -> None:
    machines = wired(VALIDATOR)
    peer = machines.peer()
    assert [peer.index(machine) for machine in machines.listed] == list(range(16))
    assert peer.next_wake == 0, "everybody is asked for the first time at once"


def test_steward_and_provider_hear_what_the_ledger_decided() -> None:
    machines = wired(STEWARD)
    assert machines.client.listeners == [machines.steward, machines.provider, machines.reclaim]


def test_a_shared_replica_is_read_by_all_but_validators() -> None:
    follower = Follower(GENESIS)
    shared = wire_machines(PROVIDERS[0], GENESIS, outside(), shared=follower)
    validator = wire_machines(VALIDATOR, GENESIS, outside(), shared=follower)
    assert shared.replica is follower and shared.ledger is follower.ledger
    assert validator.replica is not follower


def test_a_validator_whose_blocks_are_rotten_does_not_start() -> None:
    with pytest.raises(LocalError) as caught:
        wire_machines(VALIDATOR, GENESIS, outside(), blocks=(b"rot",))
    assert caught.value.code == "bad_stored_block"


def test_the_first_offer_counts_free_slots_and_the_same_again_is_no_news() -> None:
    machines = wired(PROVIDERS[0])
    assert any(isinstance(effect, Publish) for effect in machines.offer(TERMS, NOW))
    assert machines.maker.terms == TERMS
    assert machines.offer(TERMS, Micros(NOW + 1)) == []


def test_the_terms_that_are_out_count_and_not_those_of_the_start() -> None:
    machines = wired(PROVIDERS[0])
    machines.offer(TERMS, NOW)
    dearer = replace(TERMS, price_per_hour=Credits(2 * CREDIT))
    machines.maker.change(dearer, Micros(NOW + 1))
    machines.offer(TERMS, Micros(NOW + 2))
    assert machines.maker.terms == dearer


def test_who_offers_no_slots_has_none_free() -> None:
    machines = wired(STEWARD)
    nothing = replace(TERMS, slots=0, slots_free=0)
    machines.offer(nothing, NOW)
    assert machines.offer(nothing, Micros(NOW + SECOND)) == []


@pytest.mark.parametrize("interval", [OFFER_INTERVAL, Micros(60 * SECOND)])
def test_offers_come_as_often_as_the_driver_wants(interval: Micros) -> None:
    machines = wired(PROVIDERS[0], offer_interval=interval)
    machines.offer(TERMS, NOW)
    assert not [item for item in machines.maker.tick(Micros(NOW + interval - 1)) if isinstance(item, Publish)]
    assert [item for item in machines.maker.tick(Micros(NOW + interval)) if isinstance(item, Publish)]


def test_a_job_is_planned_with_the_offers_in_the_book_busy_or_not() -> None:
    machines = wired(STEWARD)
    busy = replace(TERMS, slots_free=0)
    for identity, terms in ((PROVIDERS[0], TERMS), (PROVIDERS[1], busy)):
        machines.offers.receive(identity.peer, offer(identity, terms=terms), NOW)
    record, quote, effects = machines.steward.submit(SPEC, STEWARD.peer, "key", NOW)
    assert record.state == "quoted" and quote is not None
    assert [effect.key for effect in effects if isinstance(effect, Store)] == [f"job/{record.job.hex()}"]


def test_nobody_in_the_book_is_a_refusal() -> None:
    with pytest.raises((Refused, Unavailable)):
        wired(STEWARD).steward.submit(SPEC, STEWARD.peer, "key", NOW)


def test_a_restarted_steward_knows_its_jobs() -> None:
    machines = wired(STEWARD)
    machines.offers.receive(PROVIDERS[0].peer, offer(PROVIDERS[0]), NOW)
    record, _, effects = machines.steward.submit(SPEC, STEWARD.peer, "key", NOW)
    records = [(effect.key, effect.value) for effect in effects if isinstance(effect, Store) and effect.value]
    again = wired(STEWARD)
    for _, act in again.restored([*records, ("renter/x", b"anything")], STEWARD.peer):
        act(NOW)
    assert again.steward.jobs[JobId(record.job)].record.spec == SPEC


def test_a_restarted_provider_gives_back_what_it_held_and_forgets_it() -> None:
    machines = wired(PROVIDERS[0])
    lease = ("lease/" + "ab" * 32, wire.encode((b"e" * 32, 0, 1)))
    commands = machines.restored([lease], PROVIDERS[0].peer)
    assert [machine for machine, _ in commands] == [machines.steward, machines.provider, machines.justice.witness]
    effects = [effect for _, act in commands for effect in act(NOW)]
    assert Store(lease[0], None) in effects
    assert any(isinstance(effect, Send) for effect in effects), "a surrender goes to the ledger"


def test_a_restarted_validator_goes_on_judging() -> None:
    machines = wired(VALIDATOR)
    commands = machines.restored([], VALIDATOR.peer)
    justice = [machines.justice.witness, machines.justice.court, machines.justice.beacon]
    assert [machine for machine, _ in commands] == [machines.steward, machines.provider, machines.judge, *justice]
    assert not any(isinstance(effect, Compute) for _, act in commands for effect in act(NOW))


def test_a_rotten_record_is_refused() -> None:
    with pytest.raises(RemoteViolation, match="malformed"):
        wired(STEWARD).restored([("job/00", b"\xc1")], STEWARD.peer)
    with pytest.raises(ValueError, match="malformed"):
        wired(STEWARD).restored([("lease/00", b"\xc1")], STEWARD.peer)


def test_a_follower_without_blocks_is_not_current() -> None:
    """It must not grant leases before it has caught up; a validator is always current."""
    steward, validator = wired(STEWARD), wired(VALIDATOR)
    assert not steward.steward._desk.is_current() and validator.steward._desk.is_current()


def test_results_are_compared_by_staked_validators_that_have_the_runtime() -> None:
    stakes: tuple[tuple[Literal["U", "S"], bytes, int], ...] = tuple(
        ("S", item.peer, 5 * CREDIT) for item in (VALIDATOR, STEWARD, RENTER)
    )
    genesis = Genesis("test", START, tuple((item.peer, 1) for item in (VALIDATOR, STEWARD, RENTER)), stakes)
    machines = wired(VALIDATOR, genesis)
    same, other = TERMS, replace(TERMS, runtimes=(Runtime("python", wire.digest(b"another build")),))
    machines.offer(same, NOW)
    machines.offers.receive(STEWARD.peer, offer(STEWARD, terms=other), NOW)
    machines.offers.receive(PROVIDERS[0].peer, offer(PROVIDERS[0], terms=same), NOW)
    assert machines.judge is not None
    choose = machines.judge._bench.auditors
    facts = replace(Facts.of(wire.digest(b"spec"), 1, SPEC), numeric="D0")
    assert set(choose(facts, PROVIDERS[0].peer)) == {VALIDATOR.peer, STEWARD.peer}, "whoever offers no runtime cannot"
    assert set(choose(replace(facts, numeric="D2"), PROVIDERS[0].peer)) == {VALIDATOR.peer}, "the same build only"
    assert set(choose(facts, STEWARD.peer)) == {VALIDATOR.peer}, "nobody compares with itself"
    assert choose(facts, PROVIDERS[0].peer)[VALIDATOR.peer] == 5 * CREDIT
    assert set(choose(replace(facts, runtime="fortran"), PROVIDERS[0].peer)) == set()


def test_a_peer_that_carries_a_job_does_not_lease_to_itself() -> None:
    """One key cannot sign a lease twice: such a lease was refused without a receipt, and handed in again for ever."""
    both = wired(PROVIDERS[0])
    both.offers.receive(PROVIDERS[0].peer, offer(PROVIDERS[0], both), NOW)
    both.offers.receive(PROVIDERS[1].peer, offer(PROVIDERS[1]), NOW)
    plan = both.steward.plan(SPEC, RENTER.peer, NOW)
    assert [item.peer for item in plan.candidates] == [PROVIDERS[1].peer]
    assert [(item.peer, item.code) for item in plan.excluded] == [(PROVIDERS[0].peer, "own_job")]
    body = wire.encode(SPEC)
    notice = JobNotice(
        sequence=1,
        issued=NOW,
        expires=NOW + SECOND,
        job=b"j" * 16,
        renter=RENTER.peer,
        spec=wire.digest(body),
        spec_size=len(body),
        escrow=bytes(32),
        name=SPEC.name,
        runtime=SPEC.runtime,
        resources=SPEC.resources,
        price_per_hour_max=SPEC.price_per_hour_max,
        chunks_open=2,
    )
    assert both.provider.receive(PROVIDERS[0].peer, notice, NOW) == []
    assert both.provider.receive(PROVIDERS[1].peer, notice, NOW), "anybody else's is looked at"


def test_the_share_of_audits_follows_price_and_stake_where_there_is_a_policy() -> None:
    machines = wired(VALIDATOR)
    assert machines.judge is not None
    assert machines.judge._bench.caution.floor((b"e" * 32, 0, 1), PROVIDERS[0].peer)(77) == 77, "no policy: the job's"
    world = World(with_policy())
    escrow = world.claimed()
    lease = world.ledger.escrows[escrow].chunks[0]
    judging = Acquaintance(
        VALIDATOR.peer, (VALIDATOR.peer,), OfferBook(), lambda: NOW, machines.maker, lambda: world.ledger
    )
    floor = judging.floor((escrow, 0, 1), PROVIDERS[0].peer)
    needed = exposure.floor_ppm(lease.price, STAKE, POLICY.collusion)
    assert (floor(0), floor(PPM)) == (needed, PPM)
    lease.inherited = {1: STEWARD.peer}
    poor = exposure.floor_ppm(lease.price, world.ledger.available("S", STEWARD.peer), POLICY.collusion)
    assert judging.floor((escrow, 0, 1), PROVIDERS[0].peer)(0) == poor > needed, "the smallest stake of its makers"
    lease.inherited = {}
    for _ in range(60):
        world.ledger.standings.setdefault(OTHER.peer, Standing()).rejected += 1
    assert judging.floor((escrow, 0, 1), PROVIDERS[0].peer)(0) == 5 * needed, "all of the network's results fail"


def test_networks_are_those_of_a_peers_own_offer() -> None:
    machines = wired(VALIDATOR)
    there = replace(TERMS, addresses=("/ip4/20.1.2.3/tcp/4001", "/ip4/10.0.0.1/tcp/1"))
    machines.offers.receive(STEWARD.peer, offer(STEWARD, terms=there), NOW)
    machines.offer(replace(TERMS, addresses=("/ip4/20.9.9.9/tcp/1",)), NOW)
    assert machines.judge is not None
    networks = machines.judge._bench.caution.networks
    assert networks(STEWARD.peer) == {"20.1.2.0/24"}
    assert networks(VALIDATOR.peer) == {"20.9.9.0/24"}
    assert networks(RENTER.peer) == frozenset()
