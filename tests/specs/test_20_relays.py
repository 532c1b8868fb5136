"""specs/20-relays.md against the modules of relays and hole punching."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.reach import circuit_messages, half_open, punch_talk, punching, relay_client, relay_server, relays
from protocol.overlay import punch, relay_budget, relay_choice
from protocol.overlay.nat_kind import NatKind
from protocol.overlay.relay_budget import Circuit, RelayBudget, RelayLimits
from protocol.overlay.relay_choice import Candidate, RelayChoice
from protocol.overlay.relay_rates import Rate
from protocol.units import SECOND, Micros, PeerId

SPEC = specs.load("20-relays")
MODULES = (
    circuit_messages, half_open, punch, punch_talk, punching, relay_budget, relay_choice, relay_client, relay_server,
    relays,
)  # fmt: skip
NOW = Micros(1_700_000_000 * SECOND)
HERE, THERE = PeerId(b"h" * 32), PeerId(b"t" * 32)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_the_budget_is_the_code_s() -> None:
    told = {row["limit"]: int(row["value"]) for row in SPEC.table("budget")}
    assert told == dataclasses.asdict(RelayLimits())


@given(st.integers(1, 65_536), st.integers(0, 90_000), st.integers(0, 90_000), st.integers(0, 90_000))
def test_bytes_are_granted_as_told(asked: int, circuit_left: int, peer_left: int, address_left: int) -> None:
    budget = RelayBudget(
        RelayLimits(
            circuit_bytes=circuit_left, hourly_bytes_per_peer=peer_left + 1, hourly_bytes_per_address=address_left + 1
        )
    )
    budget.reserve(THERE, "11.0.0.2", NOW)
    circuit = budget.open(HERE, "11.0.0.1", THERE, NOW)
    assert isinstance(circuit, Circuit)
    budget.established(circuit, NOW)
    told = SPEC.functions["granted"](asked, circuit_left, peer_left + 1, address_left + 1)
    assert budget.take(circuit, HERE, asked, NOW).size == told


@given(st.integers(1_000, 1 << 24), st.lists(st.tuples(st.integers(1, 65_536), st.integers(0, 100_000)), max_size=20))
def test_rates_are_as_told(rate: int, pieces: list[tuple[int, int]]) -> None:
    line, booked, now = Rate(rate), 0, int(NOW)
    for size, pause in pieces:
        now += pause
        assert line.take(size, Micros(now)) == SPEC.functions["wait_us"](booked, rate, now, size)
        booked = max(booked, now * rate - rate * 1_000_000 // 4) + size * 1_000_000


def test_relays_are_asked_again_as_told() -> None:
    choice, one, now = RelayChoice(), Candidate(THERE, Micros(1), "/ip4/11.0.0.2/tcp/1"), NOW
    waits = SPEC.functions["waits_us"](10)
    assert isinstance(waits, list)
    for wait in waits:
        choice.failed(THERE, now)
        assert not choice.plan([one], Micros(now + wait - 1)).reserve
        now = Micros(now + wait)
        assert choice.plan([one], now).reserve


def test_attempts_are_as_told() -> None:
    kinds: tuple[NatKind, ...] = ("none", "cone", "symmetric", "unknown")
    for ours, theirs in itertools.product(kinds, kinds):
        assert punch.attempts(ours, theirs) == SPEC.functions["attempts"](ours, theirs)


@given(st.integers(0, punch.ANSWER_US - 1))
def test_the_moment_is_as_told(trip: int) -> None:
    machine = punch.Punch(THERE, (), ("unknown", "unknown"), lambda address: True)
    machine.initiate(NOW)
    effects = machine.receive(punch.Connect(("/ip4/11.0.0.2/tcp/1",)), Micros(NOW + trip))
    (dial,) = [effect for effect in effects if isinstance(effect, punch.Dial)]
    assert dial.at == SPEC.functions["dial_at"](NOW, NOW + trip)
    assert dial.role == "server"


def test_circuits_are_written_as_told() -> None:
    reservation = relay_client.Reservation(THERE, "/ip4/11.0.0.2/tcp/1", NOW, circuit_messages.CircuitLimit())
    name = reservation.circuit.split("/")[6]
    assert reservation.circuit == SPEC.functions["circuit_address"]("/ip4/11.0.0.2/tcp/1", name)
