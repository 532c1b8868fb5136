"""The issuer: whom it asks and when, what it finds by its own clock, and what follows."""

from __future__ import annotations

from random import Random

import pytest

from protocol.bench_messages import BenchAnswer, BenchReply, BenchRequest
from protocol.effects import Send, Wake
from protocol.messages import Gpu
from protocol.units import HOUR, MINUTE, SECOND, Micros, PeerId
from tests.verifier.bench_stand import H100, ISSUER, PROVIDER, Stand, changed, offer
from verifier.bench_orders import PRODUCT_OF_FLOP, SPARE, claimed, limit, order
from verifier.benchmarking import (
    AGAIN,
    PATIENCE,
    RECORDS_MAX,
    REFUSALS_MAX,
    RETEST,
    RTT_COUNTED_MAX,
    SLOW_MAX,
    Issuer,
)


def limit_of(stand: Stand, kind: str = "cpu") -> int:
    name = "gpu" if kind == "gpu" else "cpu"
    claim = claimed(stand.offered, "gpu" if name == "gpu" else "cpu")
    return limit(order(b"0" * 16, "gpu" if name == "gpu" else "cpu", 0, claim), claim)


def test_an_honest_processor_is_plausible_and_loses_nothing() -> None:
    stand = Stand()
    assert stand.ask() == ["plausible"]
    found = stand.issuer.found(PROVIDER)["cpu"]
    assert (found.code, found.claimed) == ("plausible", 12_000 * PRODUCT_OF_FLOP)
    assert found.took == SECOND, "the ten seconds of starting a program and the trip are not counted"
    assert stand.issuer.trusted(PROVIDER, stand.offered) is stand.offered
    assert not stand.issuer.is_doubted(PROVIDER)
    assert [one.code for one in stand.answerer.said] == ["plausible"]


def test_too_slow_once_is_nothing_and_twice_a_finding() -> None:
    stand = Stand()
    stand.took = limit_of(stand) + 1
    assert stand.ask() == ["too_slow"]
    assert not stand.issuer.found(PROVIDER)
    stand.hours(1)
    assert stand.ask() == ["too_slow"] and SLOW_MAX == 2
    found = stand.issuer.found(PROVIDER)["cpu"]
    assert found.shown < found.claimed / 4
    assert stand.issuer.is_doubted(PROVIDER)
    trusted = stand.issuer.trusted(PROVIDER, stand.offered)
    assert trusted.capability.cpu_gflops == found.shown // PRODUCT_OF_FLOP < 12_000


def test_at_the_limit_is_in_time() -> None:
    stand = Stand()
    stand.took = limit_of(stand)
    assert stand.ask() == ["plausible"]


@pytest.mark.parametrize(("measured", "counted"), [(None, SECOND // 2), (60_000, 60_000), (10**9, RTT_COUNTED_MAX)])
def test_the_trip_counts_against_nobody_and_for_nobody_beyond_a_second(measured: int | None, counted: int) -> None:
    stand = Stand(rtt=0, measured=measured)
    stand.took = limit_of(stand) + counted
    assert stand.ask() == ["plausible"]
    stand.hours(25)
    stand.took += 1
    assert stand.ask() == ["too_slow"]


def test_a_wrong_row_is_found_at_once_and_goes_with_a_right_one() -> None:
    stand = Stand(code="wrong_row")
    assert stand.ask() == ["wrong_row"]
    assert stand.issuer.is_doubted(PROVIDER)
    assert stand.issuer.trusted(PROVIDER, stand.offered).capability.cpu_gflops == 0
    stand.offered = changed(stand.offered, cpu_gflops=6_000)
    assert stand.issuer.is_doubted(PROVIDER), "another claim wipes nothing out"
    stand.hours(1)
    stand.code = "ok"
    assert stand.ask() == ["plausible"]
    assert not stand.issuer.is_doubted(PROVIDER)


def test_a_card_that_was_not_shown_is_none() -> None:
    stand = Stand(offered=offer(cpu_gflops=0, gpus=(H100,)))
    stand.took = 58 * SECOND
    assert (stand.ask(), stand.issuer.is_doubted(PROVIDER)) == (["too_slow"], False)
    stand.hours(1)
    stand.ask()
    assert stand.issuer.trusted(PROVIDER, stand.offered).capability.gpus == ()
    honest = Stand(offered=offer(cpu_gflops=0, gpus=(H100,)), took=SECOND + SECOND // 2)
    assert honest.ask() == ["plausible"]
    assert honest.issuer.trusted(PROVIDER, honest.offered).capability.gpus == (H100,)


def test_a_card_of_an_unknown_name_is_asked_nothing_and_counts_for_nothing() -> None:
    stand = Stand(offered=offer(cpu_gflops=0, gpus=(Gpu("nvidia", "Quantum 9000", 80 << 30, 0, 0),)))
    assert stand.ask() == []
    assert stand.issuer.found(PROVIDER)["gpu"].code == "unknown_gpu"
    assert stand.issuer.trusted(PROVIDER, stand.offered).capability.gpus == ()
    assert not stand.issuer.is_doubted(PROVIDER), "a rare card is no lie"


def test_who_never_answers_has_shown_nothing() -> None:
    stand = Stand(offered=offer(cpu_gflops=0, gpus=(H100,)), is_busy=True)
    for _ in range(REFUSALS_MAX):
        assert stand.issuer.trusted(PROVIDER, stand.offered).capability.gpus == (H100,)
        assert stand.ask() == ["no_answer"]
        stand.hours(1)
    assert stand.issuer.trusted(PROVIDER, stand.offered).capability.gpus == ()
    assert not stand.issuer.is_doubted(PROVIDER)
    mute = Stand(is_mute=True)
    assert mute.ask() == ["no_answer"]


def test_silence_does_not_wash_a_finding_off() -> None:
    stand = Stand(code="wrong_row")
    stand.ask()
    stand.is_mute = True
    for _ in range(REFUSALS_MAX + 1):
        stand.hours(1)
        stand.ask()
    assert stand.issuer.is_doubted(PROVIDER)


def test_an_unknown_card_does_not_wash_a_finding_off() -> None:
    stand = Stand(offered=offer(cpu_gflops=0, gpus=(H100,)), code="wrong_row")
    assert stand.ask() == ["wrong_row"]
    stand.offered = offer(cpu_gflops=0, gpus=(Gpu("nvidia", "Quantum 9000", 80 << 30, 0, 0),))
    stand.hours(1)
    assert stand.ask() == []
    assert stand.issuer.is_doubted(PROVIDER)


def test_many_names_wash_no_finding_off() -> None:
    stand = Stand(code="wrong_row")
    stand.ask()
    many = {PeerId(number.to_bytes(32, "big")): offer(gpus=(H100,)) for number in range(RECORDS_MAX)}
    issuer = stand.issuer
    issuer._offers = lambda now: many
    (asked, _) = issuer.ask(stand.now)
    assert isinstance(asked, Send) and asked.peer in many
    assert len(issuer._records) == RECORDS_MAX
    assert issuer.is_doubted(PROVIDER)


def test_who_is_not_asked() -> None:
    for offered in (offer(slots_free=0), offer(cpu_gflops=0)):
        assert Stand(offered=offered).ask() == []
    itself = Issuer(PROVIDER, lambda now: {PROVIDER: offer()}, lambda peer: 0, Random(1), 4)
    assert itself.ask(Micros(0)) == []


def test_an_unchanged_claim_rests_for_a_day_and_a_changed_one_does_not() -> None:
    stand = Stand()
    assert stand.ask() == ["plausible"]
    stand.now = Micros(stand.now + AGAIN // 2)
    assert stand.ask() == []
    stand.offered = changed(stand.offered, cpu_gflops=13_000)
    assert stand.ask() == ["plausible"]
    stand.offered = changed(stand.offered, cpu_gflops=14_000)
    assert stand.ask() == [] and 5 * MINUTE < RETEST, "not more often than that, whatever it says"
    stand.now = Micros(stand.now + AGAIN)
    assert stand.ask() == ["plausible"]


def test_questions_come_at_random_and_as_often_as_asked_for() -> None:
    issuer = Issuer(ISSUER, lambda now: {PROVIDER: offer(slots_free=0)}, lambda peer: 0, Random(3), 4)
    now, looks = Micros(0), list[int]()
    while now < 1_000 * HOUR:
        (wake,) = issuer.tick(now)
        assert isinstance(wake, Wake) and wake.at > now
        looks.append(wake.at - now)
        now = wake.at
    assert 3_600 < len(looks) < 4_400
    assert min(looks) < MINUTE < HOUR < max(looks)
    assert Issuer(ISSUER, lambda now: {}, lambda peer: 0, Random(3), 0).tick(now) == []


def test_what_was_not_asked_for_changes_nothing() -> None:
    stand = Stand()
    (asked, _) = stand.issuer.ask(stand.now)
    assert isinstance(asked, Send) and isinstance(asked.message, BenchRequest)
    bench = asked.message.bench
    stranger = PeerId(b"s" * 32)
    for sender, message in (
        (stranger, BenchReply(bench, "ready")),
        (PROVIDER, BenchReply(b"x" * 16, "ready")),
        (PROVIDER, BenchAnswer(bench, b"r" * 32)),
    ):
        assert stand.issuer.receive(sender, message, stand.now) == []
    assert len(stand.issuer.receive(PROVIDER, BenchReply(bench, "ready"), stand.now)) == 2


def test_what_is_not_waited_for_any_more_is_too_slow() -> None:
    stand = Stand()
    stand.issuer.ask(stand.now)
    running = stand.issuer._running
    assert running is not None
    stand.issuer.receive(PROVIDER, BenchReply(running.order.bench, "ready"), stand.now)
    late = Micros(stand.now + PATIENCE * limit_of(stand) + RTT_COUNTED_MAX)
    assert len(stand.issuer.tick(Micros(late - 1))) == 1
    told = [effect for effect in stand.issuer.tick(late) if isinstance(effect, Send)]
    assert [getattr(effect.message, "code", "") for effect in told] == ["too_slow"]
    assert late > SPARE
