"""specs/41-benchmarks.md against the verifier."""

from __future__ import annotations

import typing

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import bench_messages, units
from protocol.messages import Message
from protocol.units import Micros
from tests.verifier.bench_stand import Stand
from verifier import bench_answers, bench_orders, benchmarking, gpu_challenge

SPEC = specs.load("41-benchmarks")
MODULES = (units, bench_messages, bench_orders, benchmarking, bench_answers, gpu_challenge)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        found = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        assert found and set(found) == {value}, name


@given(claim=st.integers(1, 2**62))
def test_orders_and_limits(claim: int) -> None:
    asked = bench_orders.order(b"0" * 16, "cpu", 0, claim)
    assert asked.count == SPEC.functions["products"](claim)
    for one in (asked, bench_orders.order(b"0" * 16, "gpu", 0, claim)):
        said = SPEC.functions["limit"](claim, one.size, one.count)
        assert isinstance(said, int) and abs(bench_orders.limit(one, claim) - said) <= 1


@given(arrived=st.integers(0, 10**8), rtt=st.none() | st.integers(0, 10**8))
def test_what_counts_of_the_time(arrived: int, rtt: int | None) -> None:
    stand = Stand(measured=rtt)
    stand.issuer.ask(stand.now)
    running = stand.issuer._running
    assert running is not None
    running.sent = Micros(0)
    assert stand.issuer._elapsed(running, Micros(arrived)) == SPEC.functions["elapsed"](0, arrived, rtt)


def test_messages_and_findings_are_those_of_the_code() -> None:
    listed = [row["message"] for row in SPEC.table("course")]
    assert listed == [kind.__name__ for kind in typing.get_args(Message) if kind.__name__.startswith("Bench")]
    codes = {row["code"] for row in SPEC.table("findings")}
    assert codes == set(typing.get_args(bench_orders.Code))
