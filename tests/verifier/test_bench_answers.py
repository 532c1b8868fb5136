"""The answering side: what it refuses, how seldom it works for others, and what it tells its owner."""

from __future__ import annotations

import pytest

from protocol.bench_messages import BenchOpen, BenchReply, BenchRequest, BenchSeed, BenchVerdict
from protocol.completions import Benched
from protocol.effects import Benchmark, Compute, Effect, Send
from protocol.errors import Refused
from protocol.messages import Offer
from protocol.units import HOUR, MINUTE, Micros, PeerId
from tests.verifier.bench_stand import H100, offer
from verifier.bench_answers import ANSWERS_MAX, ANSWERS_PER_PEER, MULTIPLY_WITHIN, SEED_WITHIN, Answerer
from verifier.bench_orders import claimed, order

VALIDATOR, STRANGER = PeerId(b"v" * 32), PeerId(b"s" * 32)
NOW = Micros(HOUR)


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def answerer(offered: Offer | None = None, is_busy: bool = False) -> Answerer:
    has = offer() if offered is None else offered
    return Answerer(lambda now: has, lambda: is_busy, lambda peer: peer != STRANGER, lambda peer: peer[0] == ord("v"))


def request(number: int = 0, offered: Offer | None = None) -> BenchRequest:
    return order(bytes([number]) * 16, "cpu", 0, claimed(offered or offer(), "cpu"))


def replies(effects: list[Effect]) -> list[str]:
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    return [message.code for message in sent if isinstance(message, BenchReply)]


def steps(effects: list[Effect]) -> list[str]:
    return [one.work.step for one in effects if isinstance(one, Compute) and isinstance(one.work, Benchmark)]


def begun(machine: Answerer, issuer: PeerId, now: Micros, number: int = 0) -> str:
    """The refusal, or `begins`; what began is over again."""
    effects = machine.receive(issuer, request(number), now)
    if steps(effects) != ["ready"]:
        return replies(effects)[0]
    machine.receive(issuer, Benched(f"bench-{request(number).bench.hex()}", "ready", "unable"), now)
    return "begins"


def test_only_validators_and_stewards_may_ask() -> None:
    with pytest.raises(Refused, match="neither validator nor steward"):
        answerer().receive(STRANGER, request(), NOW)


def test_what_is_refused() -> None:
    for machine in (answerer(is_busy=True), answerer(offer(slots_free=0))):
        assert replies(machine.receive(VALIDATOR, request(), NOW)) == ["busy"]
    larger = order(b"0" * 16, "cpu", 0, 10 * claimed(offer(), "cpu"))
    assert replies(answerer().receive(VALIDATOR, larger, NOW)) == ["too_large"]
    card = order(b"0" * 16, "gpu", 0, 1)
    assert replies(answerer().receive(VALIDATOR, card, NOW)) == ["no_card"]
    assert steps(answerer(offer(gpus=(H100,))).receive(VALIDATOR, card, NOW)) == ["ready"]


def test_one_at_a_time() -> None:
    machine = answerer()
    assert steps(machine.receive(VALIDATOR, request(1), NOW)) == ["ready"]
    assert replies(machine.receive(peer(2), request(2), NOW)) == ["busy"]


def test_a_few_in_an_hour_and_half_of_them_for_validators() -> None:
    machine = answerer()
    found = [begun(machine, peer(number), NOW, number) for number in range(1, 10)]
    assert found == ["begins"] * (ANSWERS_MAX // 2) + ["too_often"] * (9 - ANSWERS_MAX // 2)
    mine = [begun(machine, VALIDATOR, Micros(NOW + MINUTE), 20 + number) for number in range(3)]
    assert mine == ["begins"] * ANSWERS_PER_PEER + ["too_often"]
    assert begun(machine, peer(1), Micros(NOW + HOUR), 30) == "begins", "an hour later all is given back"


def test_the_course_of_one_and_who_may_go_on_with_it() -> None:
    machine, asked = answerer(), request()
    task = f"bench-{asked.bench.hex()}"
    machine.receive(VALIDATOR, asked, NOW)
    seed = BenchSeed(asked.bench, b"s" * 32)
    assert machine.receive(VALIDATOR, seed, NOW) == [], "before it is ready"
    assert replies(machine.receive(VALIDATOR, Benched(task, "ready", "ok"), NOW)) == ["ready"]
    assert machine.receive(peer(1), seed, NOW) == []
    assert steps(machine.receive(VALIDATOR, seed, NOW)) == ["multiply"]
    assert machine.receive(VALIDATOR, seed, NOW) == [], "one seed"
    assert machine.receive(VALIDATOR, BenchOpen(asked.bench, b"b" * 32), NOW) == [], "no rows before a root"
    machine.receive(VALIDATOR, Benched(task, "multiply", "ok"), NOW)
    assert steps(machine.receive(VALIDATOR, BenchOpen(asked.bench, b"b" * 32), NOW)) == ["open"]
    last = machine.receive(VALIDATOR, Benched(task, "open", "ok", rows=((b"row", ()),)), NOW)
    assert steps(last) == ["end"] and isinstance(last[0], Send)


def test_a_child_that_nobody_goes_on_with_ends() -> None:
    machine, asked = answerer(), request()
    machine.receive(VALIDATOR, asked, NOW)
    assert steps(machine.tick(Micros(NOW + MULTIPLY_WITHIN - 1))) == []
    machine.receive(VALIDATOR, Benched(f"bench-{asked.bench.hex()}", "ready", "ok"), NOW)
    assert steps(machine.tick(Micros(NOW + SEED_WITHIN))) == ["end"]
    assert machine.tick(Micros(NOW + SEED_WITHIN)) == []


def test_verdicts_are_kept_only_of_whom_was_answered() -> None:
    machine, asked = answerer(), request()
    machine.receive(VALIDATOR, asked, NOW)
    verdict = BenchVerdict(asked.bench, "too_slow", 9, 5)
    assert machine.receive(peer(1), verdict, NOW) == [] and machine.said == []
    machine.receive(VALIDATOR, verdict, NOW)
    machine.receive(VALIDATOR, verdict, NOW)
    assert [(one.peer, one.code, one.took, one.limit) for one in machine.said] == [(VALIDATOR, "too_slow", 9, 5)]
