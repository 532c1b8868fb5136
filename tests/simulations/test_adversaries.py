"""The attack library in small worlds: what each cheat does, what it gets, and what stops it."""

from __future__ import annotations

from typing import get_args

import pytest

from protocol import overturned
from protocol.errors import Refused
from protocol.operations import Found
from simulations.adversaries import registry
from simulations.adversaries.cheat import Cheat
from simulations.attack_account import NEVER, AttackAccount, AttackReport, consequence
from simulations.observer import Observer
from simulations.scenario import (
    NS,
    Adversary,
    Arrival,
    Duration,
    Group,
    Jobs,
    Population,
    Role,
    Scenario,
    Simulation,
    Topology,
    Workload,
)
from simulations.strategy import Strategy
from simulations.world import World
from verifier import concurrence

PRICE = 280
"""What a chunk of two seconds costs, smallest units."""

PAY = 252
"""What its provider gets of it."""

FAR = 10_000 * NS

TURNED = sorted(name for name, kind in registry.STRATEGIES.items() if not kind.brings and name != "wash-renter")
"""Strategies that turn peers of the population and leave them as they are until then."""


def scenario(
    *cheats: Adversary,
    seconds: int = 90,
    jobs: int = 2,
    chunk: int = 2,
    stewards: int = 1,
    providers: Group | None = None,
    validators: int = 1,
) -> Scenario:
    """A quiet little town: regular jobs of eight chunks, all hosts alike."""
    chunk_time = Duration(model="fixed", value=chunk * NS)
    return Scenario(
        name="attack",
        simulation=Simulation(duration=seconds * NS, settle=30 * NS, gossip="direct"),
        topology=Topology(latency="uniform"),
        population=Population(
            validators=Group(n=validators, slots=0),
            stewards=Group(n=stewards, slots=0),
            providers=providers or Group(n=4, gpus="uniform"),
        ),
        workload=Workload(
            jobs=Jobs(arrival=Arrival(model="regular", per_hour=360), chunks=8, chunk_time=chunk_time, limit=jobs)
        ),
        adversaries=cheats,
    )


def gossiping(*cheats: Adversary, providers: int = 10) -> Scenario:
    """Providers that gossip by GossipSub."""
    return Scenario(
        name="gossip",
        simulation=Simulation(duration=90 * NS, settle=30 * NS, gossip="gossipsub"),
        topology=Topology(latency="uniform"),
        population=Population(stewards=Group(n=2, slots=0), providers=Group(n=providers, gpus="uniform")),
        workload=Workload(
            jobs=Jobs(
                arrival=Arrival(model="regular", per_hour=180), chunk_time=Duration(model="fixed", value=NS), limit=3
            )
        ),
        adversaries=cheats,
    )


def cheat(strategy: str, n: int = 1, at: int = 0, **options: float) -> Adversary:
    return Adversary(strategy=strategy, n=n, at=at * NS, options={**options})


def play(played: Scenario, *observers: Observer, seed: int = 1) -> tuple[World, dict[str, AttackReport]]:
    """A whole run, and its accounts."""
    account = AttackAccount()
    world = World(played, seed, observers=[account, *observers])
    world.run()
    return world, account.reports


def states(world: World) -> list[str]:
    """How the jobs of the workload ended."""
    return [steward.machines.steward.job(job).record.state for steward, job, _ in world.workload.submitted]


def accepted(world: World) -> int:
    """Verdicts that paid, over all providers."""
    return sum(standing.accepted for standing in world.peers[0].machines.ledger.standings.values())


# ── the library ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", sorted(registry.STRATEGIES))
def test_a_strategy_says_what_it_hopes_for_what_stops_it_and_where_it_comes_from(name: str) -> None:
    kind = registry.strategy(name)
    text = kind.__doc__ or ""
    assert all(part in text for part in ("Hopes for: ", "What should stop it: ", "Source: "))
    assert kind.role in get_args(Role)
    assert issubclass(kind, Cheat)


def test_an_unknown_strategy_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(Refused, match="no adversary strategy named 'proof_forger'") as refusal:
        registry.strategy("proof_forger")
    assert all(name in (refusal.value.fix or "") for name in registry.STRATEGIES)


@pytest.mark.parametrize("options", [{"patiense": 3}, {"patience": "long"}])
def test_an_option_that_does_not_exist_or_is_no_number_is_refused(options: dict[str, float | int | str]) -> None:
    with pytest.raises(Refused, match="ProofForger has no option") as refusal:
        World(scenario(Adversary(strategy="proof-forger", n=1, options=options)), 1)
    assert refusal.value.fix == "Its options, all numbers, are: patience."


def test_more_cheats_than_there_are_peers_are_refused() -> None:
    with pytest.raises(Refused, match="wants 5 of 4 providers"):
        World(scenario(cheat("proof-forger", 5)), 1)


def test_following_the_honest_base_class_changes_nothing() -> None:
    honest = World(scenario(), 1)
    plain = World(scenario(), 1)
    for peer in plain.peers:
        peer.strategy = Strategy(0, {})
    honest.run()
    plain.run()
    assert plain.driver.auditor.hexdigest() == honest.driver.auditor.hexdigest()


@pytest.mark.parametrize("name", TURNED)
def test_a_cheat_is_honest_until_it_turns(name: str) -> None:
    honest = World(scenario(), 1)
    sleeper = World(scenario(Adversary(strategy=name, n=1, at=FAR)), 1)
    honest.run()
    sleeper.run()
    assert sleeper.driver.auditor.hexdigest() == honest.driver.auditor.hexdigest()


def test_an_attack_is_the_same_in_every_run_of_a_seed() -> None:
    hashes = [play(scenario(cheat("sybil", 4, at=5)))[0].driver.auditor.hexdigest() for _ in range(2)]
    assert hashes[0] == hashes[1]


# ── providers that lie ───────────────────────────────────────────────────────────────────────────────────────────────
def test_a_newcomer_that_forges_is_caught_every_time_and_paid_nothing() -> None:
    world, reports = play(scenario(cheat("proof-forger")))
    report = reports["proof-forger"]
    assert report.deeds["forged"] == 2  # One in each job: then it is barred.
    assert (report.earned, report.gain, report.wrong_paid) == (0, 0, 0)
    assert report.slashed == 2 * PRICE // 10
    assert 0 < report.detected < 15 * NS
    assert report.consequence == "verdict wrong (hash_differs), barred from the job"
    assert states(world) == ["settled", "settled"]


def test_a_patient_forger_is_caught_and_keeps_what_it_forged_in_between() -> None:
    _, reports = play(scenario(cheat("proof-forger", patience=9), seconds=300, jobs=28))
    report = reports["proof-forger"]
    assert report.slashed >= PRICE // 10
    assert report.gain == report.wrong_paid // PRICE * PAY > report.slashed
    assert report.consequence.startswith("verdict wrong (hash_differs)")


def test_a_copier_alone_finds_nothing_to_copy() -> None:
    world, reports = play(scenario(cheat("result-copier", 2), jobs=6))
    report = reports["result-copier"]
    assert (report.deeds, report.gain, report.detected) == ({}, 0, NEVER)
    assert states(world) == ["settled"] * 6


def test_a_copier_with_a_bait_is_paid_for_what_the_auditor_computed() -> None:
    _, reports = play(scenario(cheat("result-copier", 3, bait=1), jobs=6))
    report = reports["result-copier"]
    assert report.deeds["bait"] == 6
    assert report.gain == report.deeds["copied"] * PAY > 0
    assert report.slashed == 6 * PRICE // 10
    assert report.wrong_paid == 0


def test_nobody_is_paid_twice_for_a_chunk_or_behind_a_fence() -> None:
    world, reports = play(scenario(cheat("double-claimer"), chunk=20, seconds=200))
    report = reports["double-claimer"]
    tries = ("claimed_ahead", "claimed_late", "replayed")
    assert all(report.deeds[name] > 0 for name in tries)
    assert report.deeds["refused:future_epoch"] == report.deeds["claimed_ahead"]
    assert report.deeds["refused:wrong_state"] > 0
    assert report.consequence == "fenced"
    assert accepted(world) == 16
    assert report.gain == 0


def test_a_claim_for_somebody_elses_lease_is_refused() -> None:
    _, reports = play(scenario(cheat("double-claimer", silent=0, others=1), chunk=10))
    report = reports["double-claimer"]
    assert report.deeds["claimed_others"] == report.deeds["refused:not_signed"] > 0
    assert report.gain == 0


def test_a_holder_that_deletes_what_was_paid_costs_the_validator_upload_and_the_renter_nothing() -> None:
    honest, _ = play(scenario())
    world, reports = play(scenario(cheat("free-riding-holder", 4)))
    report = reports["free-riding-holder"]
    assert report.deeds["dropped"] == 16
    assert report.deeds["not_served"] >= 16
    assert report.detected == NEVER
    assert states(world) == ["settled", "settled"]
    assert world.network.bytes_sent[0] >= honest.network.bytes_sent[0] + 16_000_000


def test_a_voucher_needs_a_second_signature() -> None:
    world, reports = play(scenario(cheat("voucher-cheat")))
    report = reports["voucher-cheat"]
    assert report.deeds == {"tried_alone": 4, "refused:not_signed": 4}
    assert report.gain == 0
    assert states(world) == ["settled", "settled"]


def test_a_steward_that_signs_vouchers_pays_for_nothing_once_per_chunk_and_not_more_than_the_price() -> None:
    _, reports = play(scenario(cheat("voucher-cheat", stewards=1)))
    report = reports["voucher-cheat"]
    assert report.deeds["settled"] == report.deeds["refused:over_price"] > 0
    assert report.gain == report.earned == report.deeds["settled"] * PAY


# ── judges that do not judge ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_lazy_auditor_confirms_what_it_should_have_refuted() -> None:
    forger = cheat("proof-forger")
    _, honest = play(scenario(forger))
    _, reports = play(scenario(forger, cheat("lazy-auditor")))
    assert honest["proof-forger"].wrong_paid == 0
    lazy = reports["lazy-auditor"]
    assert lazy.deeds["not_executed"] > 0
    assert lazy.detected == NEVER
    assert reports["proof-forger"].gain == reports["proof-forger"].deeds["forged"] * PAY > 0


def test_a_colluding_auditor_spares_its_friends_and_audits_the_others() -> None:
    corrupt = Group(n=4, gpus="uniform", corrupt=0.5)
    world, reports = play(scenario(cheat("proof-forger"), cheat("colluding-auditor"), providers=corrupt))
    assert reports["proof-forger"].gain == reports["proof-forger"].deeds["forged"] * PAY > 0
    assert reports["proof-forger"].slashed == 0
    standings = world.peers[0].machines.ledger.standings
    assert sum(standings[peer.id].wrong for peer in world.peers if peer.id in standings) > 0
    assert reports["colluding-auditor"].honest_condemned == 0


def test_a_single_colluding_validator_has_total_power() -> None:
    _, reports = play(scenario(cheat("proof-forger"), cheat("colluding-auditor", frame=1)))
    report = reports["colluding-auditor"]
    assert report.honest_condemned == 6  # Each of three honest providers in each of two jobs.
    assert reports["proof-forger"].gain == reports["proof-forger"].deeds["forged"] * PAY


@pytest.mark.parametrize("is_joined", [True, False], ids=["as it is", "if judges kept to their own words"])
def test_who_answers_every_other_judge_keeps_nobody_from_its_pay_and_no_cheat_from_its_slash(
    is_joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_joined:
        monkeypatch.setattr(concurrence, "may_join", lambda mine, theirs: False)
    world, reports = play(scenario(cheat("choosy-auditor"), cheat("proof-forger"), seconds=400, validators=4))
    forger = reports["proof-forger"]
    assert reports["choosy-auditor"].deeds["kept_from"] > 0
    assert (states(world) == ["settled", "settled"]) is is_joined
    assert (forger.slashed == forger.deeds["forged"] * PRICE // 10) is is_joined


# ── crowds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_washers_buy_the_best_reputation_for_a_unit_per_trade() -> None:
    _, reports = play(scenario(cheat("wash-renter", 2, at=5), stewards=3, chunk=1))
    report = reports["wash-renter"]
    assert report.deeds["washed"] == 200
    assert report.fees == 200
    assert (report.reputation_before, report.reputation_after) == (750_000, 1_000_000)
    assert report.detected == NEVER


def test_a_washer_cannot_trade_with_itself() -> None:
    _, reports = play(scenario(cheat("wash-renter", at=5), stewards=2, chunk=1))
    report = reports["wash-renter"]
    assert (report.deeds, report.fees) == ({}, 0), "what it earns, it earns by work for others"


def test_sybils_without_stake_get_no_lease_and_fence_honest_providers() -> None:
    world, reports = play(scenario(cheat("sybil", 8, at=5), chunk=10))
    report = reports["sybil"]
    assert report.honest_fenced == report.deeds["fenced"] > 0
    assert report.deeds["sworn_falsely"] >= 2 * report.deeds["fenced"]
    assert report.earned == 0
    assert report.consequence == "the ledger refuses it: insufficient_stake"
    assert set(states(world)) <= {"settled", "failed"}, "watchers without stake can use up a chunk's attempts"


def test_sybils_that_swear_nothing_fence_nobody() -> None:
    _, reports = play(scenario(cheat("sybil", 8, at=5, fence=0), chunk=10))
    assert reports["sybil"].honest_fenced == 0


# ── gossip ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_eclipsed_peer_hears_nothing_and_is_not_heard_but_the_ledger_goes_on() -> None:
    world, reports = play(gossiping(cheat("eclipse", 8, at=40), providers=20))
    delivery = reports["eclipse"].delivery
    assert delivery is not None
    assert delivery.victims_before.ratio == 1.0
    assert delivery.victims_under.ratio == 0.0
    assert delivery.victims_under.expected > 0
    assert delivery.under.ratio > 0.9
    assert states(world) == ["settled"] * 3


@pytest.mark.parametrize(("name", "at"), [("censor", 40), ("cold-boot", 0), ("covert-flash", 40)])
def test_attackers_that_are_fewer_than_the_honest_keep_few_statements_from_them(name: str, at: int) -> None:
    world, reports = play(gossiping(cheat(name, 6, at=at)))
    report = reports[name]
    assert report.deeds["turned"] == 6
    assert report.delivery is not None
    assert report.delivery.under.ratio > 0.8
    assert report.delivery.under.expected > 1_000
    assert (report.delivery.before.expected > 0) == (at > 0)
    assert states(world) == ["settled"] * 3


def test_an_attacker_that_brings_invalid_statements_is_graylisted() -> None:
    account = AttackAccount()
    world = World(gossiping(cheat("covert-flash", 6, at=40)), 1, observers=[account])
    liar = next(peer.index for peer in world.peers if peer.name.startswith("covert-flash"))

    def lie(observer: int) -> None:
        for _ in range(20):
            world.gossip.scores.brought_invalid(observer, liar, 0, world.queue.now)

    world.queue.at(52 * NS, lie, 3)
    world.run()
    report = account.reports["covert-flash"]
    assert report.consequence == "graylisted"
    assert 12 * NS <= report.detected <= 17 * NS


# ── the account ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("outcome", get_args(Found))
def test_who_is_barred_is_who_the_steward_bars(outcome: str) -> None:
    assert consequence(outcome, "a_code").startswith(f"verdict {outcome} (a_code)")
    assert consequence(outcome, "a_code").endswith(", barred from the job") == (outcome in overturned.BARRED)


def test_the_account_is_written_into_the_recorder_and_into_a_sentence() -> None:
    world, reports = play(scenario(cheat("proof-forger"), cheat("free-riding-holder")))
    report = reports["proof-forger"]
    assert world.recorder.values("attack/proof-forger/cost") == [report.cost / 1e6]
    assert world.recorder.values("attack/proof-forger/gain") == [0.0]
    assert world.recorder.values("attack/proof-forger/detected_s") == [report.detected / NS]
    assert world.recorder.values("attack/free-riding-holder/detected_s") == []
    assert report.sentence.startswith("proof-forger (1 peers; forged 2): cost 0.000056 credits (0.000056 slashed")
    assert "barred from the job" in report.sentence
    assert "no consequence within the run" in reports["free-riding-holder"].sentence


def test_an_account_of_a_world_without_attackers_is_empty() -> None:
    _, reports = play(scenario())
    assert reports == {}
