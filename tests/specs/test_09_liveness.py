"""specs/09-liveness.md against protocol.liveness and protocol.watcher."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import liveness, operations, watcher
from protocol.identity import Identity
from protocol.messages import Watch
from protocol.operations import Assign
from protocol.units import SECOND, Micros

SPEC = specs.load("09-liveness")
START = Micros(1_000 * SECOND)
NAMES = {liveness.Alive: "alive", liveness.Unknown: "unknown", liveness.Dead: "dead"}
intervals = st.lists(st.integers(0, 2 * liveness.INTERVAL_MAX), max_size=30)


def heard(spans: list[int]) -> tuple[liveness.Detector, Micros]:
    detector, now = liveness.Detector(START), START
    for span in spans:
        now = Micros(now + span)
        detector.beat(now)
    return detector, now


def test_constants_and_states_are_those_of_the_code() -> None:
    found = {}
    for module in (liveness, watcher):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants
    assert [row["state"] for row in SPEC.table("states")] == list(NAMES.values())


@given(spans=intervals, silence=st.integers(0, 10**8))
def test_phi(spans: list[int], silence: int) -> None:
    kept = [min(span, liveness.INTERVAL_MAX) for span in spans] or [liveness.BEAT_INTERVAL]
    detector, _ = heard(spans)
    said = SPEC.functions["phi"](silence, statistics.fmean(kept), statistics.pstdev(kept))
    assert detector.phi(Micros(silence)) == pytest.approx(said, rel=1e-6, abs=1e-9)


@given(
    spans=intervals,
    silence=st.integers(0, 10**8),
    goodbye=st.none() | st.integers(0, 10**7),
    health=st.integers(1, 8),
)
def test_the_three_states(spans: list[int], silence: int, goodbye: int | None, health: int) -> None:
    detector, now = heard(spans)
    looked = Micros(now + silence)
    if goodbye is not None:
        detector.goodbye(Micros(looked - goodbye))
    level = detector.phi(Micros(silence // health))
    assert NAMES[type(detector.state(looked, health))] == SPEC.functions["state"](silence, level, goodbye, health)


@given(lates=st.lists(st.integers(0, 3 * SECOND), max_size=12))
def test_a_watchers_own_health(lates: list[int]) -> None:
    me, steward, provider = (Identity(bytes([n]) * 32) for n in range(3))
    lease = Assign(bytes(32), 0, 1, provider.peer, 1, 1, 2**60, 2**61, (steward.peer, me.peer))
    machine, now, health = watcher.Watcher(me, "test"), START, 1
    machine.receive(steward.peer, Watch(operations.signed_op("test", lease, steward)), now)
    for late in lates:
        now = Micros(now + watcher.LOOK_INTERVAL + late)
        machine.tick(now)
        health = SPEC.functions["health_after"](health, late)  # type: ignore[assignment]
        assert machine.health == health
    assert SPEC.functions["multiplier"](1, 8) == watcher.DECLARED_HEALTH_MAX
