"""The model of GossipSub: against its own slow form, against closed forms, under churn and under attack."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Refused
from simulations.closed_forms import duplicates, mean_hops, mesh_coverage
from simulations.conduct import Conduct
from simulations.gossip_params import SECOND, GossipParams
from simulations.mesh import scrambled
from tests.simulations.gossip_bench import Bench, Uniform, regular_graph

ROOT = Path(__file__).parents[2]

RULES = {"live": GossipParams.live(), "plain": GossipParams.plain()}


def chatter(bench: Bench, statements: int, peers: int, every: float = 0.3) -> None:
    """Statements by changing peers on all topics, then time for the last one to be forgotten."""
    topics = bench.gossip.params.topics
    for number in range(statements):
        bench.run(3 + number * every)
        bench.publish(number * 7 % peers, number, topics[number % len(topics)])
    bench.run(3 + statements * every + 12)


@pytest.mark.parametrize("rules", sorted(RULES))
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_left_out_changes_nothing(rules: str, seed: int) -> None:
    """Every delivery at the same nanosecond, and every counter, as if each copy and each IHAVE were an event."""
    short, full = (
        Bench(60, replace(RULES[rules], connect=8, processing=2_000_000, spacing=100_000, is_reference=slow), seed=seed)
        for slow in (False, True)
    )
    for bench in (short, full):
        chatter(bench, 40, 60)
    assert len(short.delivered) == 40 * 60
    assert sorted(short.delivered, key=str) == sorted(full.delivered, key=str)
    assert short.settle() == full.settle()
    assert short.queue.executed < full.queue.executed


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_left_out_changes_nothing_when_peers_are_killed(seed: int) -> None:
    """As above while peers die in the middle of a spread and come back; only lost duplicates are counted otherwise."""
    results = []
    for is_slow in (False, True):
        bench = Bench(50, replace(GossipParams.live(), connect=7, is_reference=is_slow), seed=seed)
        dice = Random(seed)
        for number in range(30):
            bench.run(3 + number * 0.5)
            bench.publish(0, number)
            victim = 1 + dice.randrange(49)
            bench.run(3 + number * 0.5 + 0.02 + dice.random() * 0.2)
            bench.gossip.leave(victim, bench.queue.now)
            bench.run(3.3 + number * 0.5)
            bench.gossip.join(victim, bench.queue.now)
        bench.run(30)
        results.append(sorted(bench.delivered, key=str))
    assert results[0] == results[1]
    assert len(results[0]) > 30 * 49


@pytest.mark.parametrize("params", [*RULES.values(), GossipParams.hardened(1.0)], ids=[*RULES, "hardened"])
def test_everybody_hears_everything_once(params: GossipParams) -> None:
    bench = Bench(200, params)
    chatter(bench, 30, 200)
    heard = Counter((peer, what) for _, peer, _, what in bench.delivered)
    assert len(heard) == 30 * 200
    assert set(heard.values()) == {1}
    result = bench.gossip.statistics()
    assert (result.published, result.delivered, result.finished) == (30, 6000, 30)
    assert result.coverage == result.worst_coverage == 1.0
    assert result.copies == result.duplicates + result.delivered - result.published
    assert len(bench.counts.values["gossip/latency"]) == 6000 - 30


def test_a_run_has_one_hash_whatever_the_hash_seed() -> None:
    script = (
        "import sys; sys.path[:0] = ['.']\n"
        "from tests.simulations.gossip_bench import Bench\n"
        "from simulations.gossip_params import GossipParams\n"
        "for params in (GossipParams.live(), GossipParams.hardened(1.0)):\n"
        "    bench = Bench(80, params)\n"
        "    for number in range(10):\n"
        "        bench.run(2 + number); bench.publish(number, number)\n"
        "    bench.run(20); print(bench.auditor.hexdigest())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("0", "77")
    }
    assert len(said) == 1
    assert len(set(said.pop().split())) == 2


@pytest.mark.parametrize("degree", [4, 6, 8])
def test_duplicates_follow_the_closed_form(degree: int) -> None:
    """A mesh of fixed degree and equal delays: n d - 2 (n - 1) superfluous copies, to the last one."""
    count = 300
    params = replace(GossipParams.plain(), low=degree, degree=degree, topics=("jobs",), lazy=0, lazy_share=0.0)
    bench = Bench(count, params, network=Uniform(), links=regular_graph(count, degree, 5))
    bench.run(5)
    assert bench.gossip.statistics().degrees == {degree: count}
    bench.publish(0, "x")
    bench.run(9)
    assert bench.settle()["gossip/duplicates"] == duplicates(count, degree)


@pytest.mark.parametrize(("count", "degree"), [(300, 4), (1000, 6), (1000, 10)])
def test_hops_follow_the_closed_form(count: int, degree: int) -> None:
    params = replace(GossipParams.plain(), low=degree, degree=degree, topics=("jobs",), lazy=0, lazy_share=0.0)
    bench = Bench(count, params, network=Uniform(), links=regular_graph(count, degree, 5))
    bench.run(5)
    for number in range(5):
        bench.publish(number, number)
        bench.run(7 + number)
    hops = bench.counts.values["gossip/hops"]
    assert abs(sum(hops) / len(hops) - mean_hops(count, degree)) < 0.1
    assert set(bench.counts.values["gossip/latency"]) == {hop * 50_000_000 for hop in set(hops)}


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_silent_peers_cost_the_coverage_that_percolation_predicts(share: float) -> None:
    count, degree = 1000, 6
    params = replace(GossipParams.plain(), low=degree, degree=degree, topics=("jobs",), lazy=0, lazy_share=0.0)
    bench = Bench(count, params, network=Uniform(), links=regular_graph(count, degree, 3))
    for peer in range(count):
        bench.gossip.conduct(peer, Conduct(forwards=share))
    bench.run(5)
    for number in range(20):
        bench.publish(number, number)
    bench.run(9)
    reached = sorted(len(bench.who_heard(number)) for number in range(20))
    spread = [each for each in reached if each > count // 10]
    assert abs(sum(spread) / len(spread) / count - mesh_coverage(degree, share)) < 0.02


def test_ihave_brings_what_the_mesh_does_not() -> None:
    """Nobody forwards: only announcements and answers carry the statement on, heartbeat by heartbeat."""
    counts = []
    for announces in (True, False):
        bench = Bench(60, replace(GossipParams.plain(), connect=15))
        for peer in range(1, 60):
            bench.gossip.conduct(peer, Conduct(forwards=0.0, announces=announces))
        bench.run(5)
        bench.publish(0, "x")
        bench.run(20)
        counts.append(len(bench.who_heard("x")))
    assert counts[0] == 60
    assert 6 <= counts[1] < 30


def test_libp2p_asks_for_what_it_has() -> None:
    """libp2p 0.8.1 announces other identifiers than it remembers: each IHAVE costs an IWANT and an answer."""
    params = replace(GossipParams.unpatched(), grafts_eagerly=False)
    live, mended = (Bench(100, replace(params, ids_agree=agree)) for agree in (False, True))
    for bench in (live, mended):
        chatter(bench, 20, 100)
    wasted, needed = live.settle(), mended.settle()
    assert wasted["gossip/ihave"] == pytest.approx(wasted["gossip/iwant"], rel=0.05)
    assert needed["gossip/iwant"] < 0.05 * needed["gossip/ihave"]
    assert wasted["gossip/duplicates"] > 1.2 * needed["gossip/duplicates"]


def test_a_statement_dies_with_the_caches() -> None:
    """After `history` heartbeats nobody can be asked any more, and the model has dropped all state of it."""
    bench = Bench(30, GossipParams.plain())
    bench.run(3)
    bench.publish(0, "x")
    bench.run(20)
    bench.gossip.join(30, bench.queue.now)
    bench.run(40)
    assert 30 not in bench.who_heard("x")
    assert bench.gossip.statistics().finished == 1


def test_a_newcomer_is_told_the_latest_by_libp2p() -> None:
    bench = Bench(30, replace(GossipParams.unpatched(), ids_agree=True))
    bench.run(3)
    bench.publish(0, "x")
    bench.run(4)
    bench.gossip.join(30, bench.queue.now)
    bench.run(4.5)
    assert 30 in bench.who_heard("x")


def test_the_killed_hear_nothing_and_links_are_replaced() -> None:
    bench = Bench(40, replace(GossipParams.live(), connect=6))
    bench.run(5)
    for peer in range(10):
        bench.gossip.leave(peer, bench.queue.now)
    bench.run(12)
    bench.publish(20, "x")
    bench.run(25)
    assert bench.who_heard("x") == set(range(10, 40))
    assert min(len(links) for links in bench.gossip.overlay.links[10:]) >= 6
    assert bench.gossip.statistics().worst_coverage == 1.0


def test_invalid_statements_end_the_sender_s_voice() -> None:
    """Six invalid statements, and nothing that the peer says is accepted by those that got them (publish_threshold)."""
    bench = Bench(20, GossipParams.live(), links=[[each for each in range(20) if each != peer] for peer in range(20)])
    bench.run(5)
    for number in range(40):
        bench.publish(0, number, is_valid=False)
        bench.run(5 + number * 0.25)
    assert all(bench.who_heard(number) == {0} for number in range(40))
    bench.publish(0, "late")
    bench.run(15.1)
    assert bench.who_heard("late") == {0}
    assert bench.settle()["gossip/invalid"] >= 6
    assert min(bench.gossip.statistics().scores) < -50


def test_invalid_statements_are_forgiven() -> None:
    bench = Bench(20, GossipParams.live(), links=[[each for each in range(20) if each != peer] for peer in range(20)])
    bench.run(5)
    for number in range(3):
        bench.publish(0, number, is_valid=False)
    bench.run(90)
    bench.publish(0, "x")
    bench.run(95)
    assert bench.who_heard("x") == set(range(20))


def test_censors_hold_back_only_what_they_mean_to() -> None:
    """A chain with a censor in the middle: its victim is not heard behind it, others are."""
    links = [[1], [0, 2], [1, 3], [2, 4], [3]]
    bench = Bench(5, replace(GossipParams.plain(), low=1, degree=2), links=links)
    bench.gossip.conduct(2, Conduct(censors=frozenset({0}), from_time=6 * SECOND))
    bench.run(5)
    for at, (peer, payload) in ((5, (0, "before")), (7, (0, "after")), (7, (1, "other"))):
        bench.run(at)
        bench.publish(peer, payload)
    bench.run(20)
    assert bench.who_heard("before") == bench.who_heard("other") == {0, 1, 2, 3, 4}
    assert bench.who_heard("after") == {0, 1, 2}


def test_the_surrounded_hear_nothing_of_others() -> None:
    bench = Bench(50, replace(GossipParams.live(), connect=8))
    for peer in range(40, 50):
        bench.gossip.conduct(peer, Conduct(forwards=0.0, announces=False, answers_iwant=False, from_time=5 * SECOND))
    bench.run(4)
    bench.gossip.surround(0, range(40, 50), bench.queue.now)
    bench.run(12)
    bench.publish(20, "x")
    bench.run(30)
    assert bench.who_heard("x") == set(range(1, 50))
    assert sorted(bench.gossip.overlay.links[0]) == list(range(40, 50))


def test_liars_and_sybils_lose_their_place_in_hardened_meshes() -> None:
    """P6 and P7: peers of one address, and peers that announce what they do not have, are in nobody's mesh any more."""
    bench = Bench(60, GossipParams.hardened(1.0))
    for peer in range(50, 60):
        bench.gossip.conduct(peer, Conduct(sybil_of=7) if peer < 55 else Conduct(spam_ihave=20))
    bench.run(30)
    meshes = bench.gossip.upkeep.meshes
    places = Counter(member for topic in meshes for mesh in topic[:50] for member in mesh.members)
    assert sum(places[peer] for peer in range(50, 60)) < 0.05 * sum(places.values())
    assert bench.settle()["gossip/ihave"] > 5 * 20 * 10


def test_meshes_stay_within_their_bounds() -> None:
    for params in (GossipParams.live(), GossipParams.plain(), GossipParams.hardened()):
        bench = Bench(150, params)
        bench.run(30)
        degrees = bench.gossip.statistics().degrees
        mean = sum(size * count for size, count in degrees.items()) / sum(degrees.values())
        assert params.low - 0.5 <= mean <= params.high
        assert max(degrees) <= params.high + 6


def test_meshes_of_the_specification_are_mutual() -> None:
    bench = Bench(100, GossipParams.plain())
    bench.run(10)
    for meshes in bench.gossip.upkeep.meshes:
        for peer, mesh in enumerate(meshes):
            assert all(peer in meshes[other].members for other in mesh.members)


def test_regular_graphs_are_regular() -> None:
    links = regular_graph(100, 6, 1)
    assert all(len(set(neighbours)) == 6 and peer not in neighbours for peer, neighbours in enumerate(links))


def test_draws_are_spread_evenly() -> None:
    buckets = Counter(scrambled(number) >> 60 for number in range(16_000))
    assert len(buckets) == 16
    assert all(850 < count < 1150 for count in buckets.values())
    assert all(first != second for first, second in pairwise(scrambled(number) for number in range(100)))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"low": 7}, "bad_degrees"),
        ({"low": 0}, "bad_degrees"),
        ({"high": 5}, "bad_degrees"),
        ({"window": 6}, "bad_window"),
        ({"heartbeat": 0}, "bad_window"),
        ({"seen": SECOND}, "bad_seen"),
        ({"topics": ()}, "bad_topics"),
        ({"topics": ("a", "a")}, "bad_topics"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, int], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        replace(GossipParams.live(), **settings)  # type: ignore[arg-type]
    assert refusal.value.code == code


def test_impossible_orders_are_refused() -> None:
    bench = Bench(3, GossipParams.live())
    orders: dict[str, Callable[[], object]] = {
        "bad_topic": lambda: bench.publish(0, "x", "news"),
        "is_up": lambda: bench.gossip.join(0, 0),
        "is_down": lambda: bench.gossip.leave(9, 0),
        "no_link": lambda: bench.gossip.unlink(0, 9),
        "bad_link": lambda: Bench(2, GossipParams.live(), links=[[5], []]),
        "bad_links": lambda: Bench(2, GossipParams.live(), links=[[1]]),
    }
    for code, order in orders.items():
        with pytest.raises(Refused) as refusal:
            order()
        assert refusal.value.code == code
