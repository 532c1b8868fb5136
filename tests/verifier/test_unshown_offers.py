"""What a steward does with offers whose claims were not shown: behind all others, and without cards."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from protocol.jobspec import GpuNeed, Resources
from protocol.messages import Gpu, Offer
from protocol.units import PeerId
from tests.protocol.ledger_world import GENESIS, PROVIDERS, RENTER, STEWARD
from tests.verifier.test_wiring import CAPABILITY, NOW, SPEC, TERMS, offer, wired
from verifier.wiring import Machines

H100 = Gpu("nvidia", "NVIDIA H100 80GB HBM3", 80 << 30, 0, 0)
FIRST, SECOND = PROVIDERS[0], PROVIDERS[1]
CARDS = replace(TERMS, capability=structs.replace(CAPABILITY, gpus=(H100,)))
WITH_CARD = structs.replace(SPEC, resources=Resources(gpu=GpuNeed(count=1, names=("H100",))))


def without(peer: PeerId, offered: Offer) -> Offer:
    """The first provider's cards were not shown."""
    if peer != FIRST.peer:
        return offered
    return structs.replace(offered, capability=structs.replace(offered.capability, gpus=()))


def market(**changes: object) -> Machines:
    """A steward that knows two providers, equal in all they say."""
    machines = wired(STEWARD, GENESIS, **changes)
    for identity in (FIRST, SECOND):
        machines.offers.receive(identity.peer, offer(identity, terms=CARDS), NOW)
    return machines


def order(machines: Machines) -> list[PeerId]:
    """Who would be asked, the first first, whatever chance says to newcomers."""
    plans = [machines.steward.plan(SPEC, RENTER.peer, NOW) for _ in range(20)]
    firsts = {plan.candidates[0].peer for plan in plans}
    return sorted(firsts)


def test_who_said_what_is_not_so_comes_last() -> None:
    assert order(market(is_doubted=lambda peer: peer == FIRST.peer)) == [SECOND.peer]
    assert order(market(is_doubted=lambda peer: peer == SECOND.peer)) == [FIRST.peer]
    desk = market(is_doubted=lambda peer: peer == FIRST.peer).steward._desk
    assert desk.rank(FIRST.peer)[:2] == (0, 0) < desk.rank(SECOND.peer)[:2]


def test_cards_that_were_not_shown_are_none() -> None:
    machines = market(trusted=without)
    plan = machines.steward.plan(WITH_CARD, RENTER.peer, NOW)
    assert [one.peer for one in plan.candidates] == [SECOND.peer]
    assert (FIRST.peer, "gpu_count") in [(one.peer, one.code) for one in plan.excluded]
    suits = machines.steward._desk.suits
    assert [suits(WITH_CARD, one.peer, NOW) for one in (FIRST, SECOND)] == [False, True]
    assert suits(SPEC, FIRST.peer, NOW), "for work without cards it is as good as before"
    assert suits(WITH_CARD, STEWARD.peer, NOW), "nothing is known of others"


def test_without_benchmarks_an_offer_is_believed() -> None:
    plan = market().steward.plan(WITH_CARD, RENTER.peer, NOW)
    assert {one.peer for one in plan.candidates} == {FIRST.peer, SECOND.peer}
