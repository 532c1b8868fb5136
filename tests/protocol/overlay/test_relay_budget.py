"""The budget of a relay holds, whatever is asked of it and in whatever order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.errors import LocalError
from protocol.overlay.endpoint import subnet
from protocol.overlay.relay_budget import CHUNK_BYTES, Circuit, Denial, Denied, RelayBudget, RelayLimits, Reserved
from protocol.units import HOUR, SECOND, Micros, PeerId

NOW = Micros(1_700_000_000 * SECOND)
LIMITS = RelayLimits(
    reservations=6,
    reservations_per_address=2,
    reservations_per_subnet=4,
    circuits=5,
    circuits_per_peer=2,
    circuits_per_address=3,
    circuit_bytes=100_000,
    hourly_bytes_per_peer=150_000,
    hourly_bytes_per_address=250_000,
    request_burst=1_000_000,
)
peers = st.integers(0, 9).map(lambda number: PeerId(bytes([number]) * 32))
addresses = st.sampled_from(["11.0.0.1", "11.0.0.2", "11.0.9.9", "22.0.0.1", "33.0.0.1", "2001:db8::1"])


def peer(number: int) -> PeerId:
    return PeerId(bytes([number]) * 32)


def opened(budget: RelayBudget, source: int, target: int, now: Micros = NOW) -> Circuit:
    circuit = budget.open(peer(source), f"11.0.{source}.1", peer(target), now)
    assert isinstance(circuit, Circuit)
    budget.established(circuit, now)
    return circuit


class Relaying(RuleBasedStateMachine):
    """Everybody asks for everything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = RelayBudget(LIMITS)
        self.now = NOW
        self.sent: Counter[PeerId] = Counter()

    @rule(peer=peers, address=addresses)
    def reserve(self, peer: PeerId, address: str) -> None:
        outcome = self.budget.reserve(peer, address, self.now)
        assert isinstance(outcome, Denied) or outcome.until == self.now + LIMITS.reservation_us

    @rule(source=peers, wanted=peers, address=addresses, is_answered=st.booleans())
    def open(self, source: PeerId, wanted: PeerId, address: str, is_answered: bool) -> None:
        has_place = wanted in self.budget.reservations
        outcome = self.budget.open(source, address, wanted, self.now)
        if isinstance(outcome, Circuit) and is_answered:
            self.budget.established(outcome, self.now)
        assert has_place or (isinstance(outcome, Denied) and outcome.why is Denial.NO_RESERVATION)

    @rule(data=st.data(), size=st.integers(1, CHUNK_BYTES))
    def take(self, data: st.DataObject, size: int) -> None:
        if not self.budget.circuits:
            return
        circuit = data.draw(st.sampled_from(sorted(self.budget.circuits, key=id)))
        sender = data.draw(st.sampled_from([circuit.source, circuit.target]))
        grant = self.budget.take(circuit, sender, size, self.now)
        self.sent[sender] += grant.size
        assert 0 <= grant.size <= size
        assert circuit.is_established or not grant.size
        if grant.size < size:
            self.budget.close(circuit)

    @rule(peer=peers)
    def release(self, peer: PeerId) -> None:
        self.budget.release(peer)
        assert peer not in self.budget.reservations

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.now = Micros(self.now + seconds * SECOND)
        for circuit in self.budget.tick(self.now):
            assert circuit.ends <= self.now
            self.budget.close(circuit)
        assert all(circuit.ends > self.now for circuit in self.budget.circuits)

    @invariant()
    def holds(self) -> None:
        reserved = [held.address for held in self.budget.reservations.values()]
        assert len(reserved) <= LIMITS.reservations
        assert all(count <= LIMITS.reservations_per_address for count in Counter(reserved).values())
        assert all(count <= LIMITS.reservations_per_subnet for count in Counter(map(subnet, reserved)).values())
        circuits = self.budget.circuits
        ends = Counter(end for circuit in circuits for end in {circuit.source, circuit.target})
        assert len(circuits) <= LIMITS.circuits
        assert all(count <= LIMITS.circuits_per_peer for count in ends.values())
        sources = Counter(circuit.source_address for circuit in circuits)
        assert all(count <= LIMITS.circuits_per_address for count in sources.values())
        assert all(circuit.passed <= LIMITS.circuit_bytes for circuit in circuits)

    @invariant()
    def nobody_sends_more_than_his_share(self) -> None:
        hours = (self.now - NOW) / HOUR
        assert all(sent <= LIMITS.hourly_bytes_per_peer * (1 + hours) + 1 for sent in self.sent.values())


Relaying.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRelaying = Relaying.TestCase


@given(st.lists(st.integers(1, CHUNK_BYTES), min_size=1, max_size=40))
def test_a_circuit_ends_at_its_last_byte(sizes: list[int]) -> None:
    budget = RelayBudget(RelayLimits(circuit_bytes=500_000))
    budget.reserve(peer(1), "11.0.1.1", NOW)
    circuit = opened(budget, 2, 1)
    granted = 0
    for size in sizes:
        grant = budget.take(circuit, peer(2), size, NOW)
        granted += grant.size
        if grant.size < size:
            assert granted == 500_000
            break
    assert granted == min(500_000, sum(sizes))


def test_a_refresh_is_no_second_reservation() -> None:
    budget = RelayBudget(LIMITS)
    for second in range(10):
        assert isinstance(budget.reserve(peer(1), "11.0.1.1", Micros(NOW + second * SECOND)), Reserved)
    assert len(budget.reservations) == 1


def test_a_sybil_subnet_does_not_fill_the_relay() -> None:
    budget = RelayBudget(RelayLimits())
    for number in range(200):
        budget.reserve(peer(number), f"66.66.{number}.1", NOW)
    assert len(budget.reservations) == RelayLimits().reservations_per_subnet
    assert isinstance(budget.reserve(peer(201), "44.1.1.1", NOW), Reserved)


def test_requests_of_one_peer_are_limited_whatever_comes_of_them() -> None:
    budget = RelayBudget(RelayLimits(request_burst=3))
    answers = [budget.open(peer(1), "11.0.1.1", peer(2), NOW) for _ in range(4)]
    reasons = [answer.why for answer in answers if isinstance(answer, Denied)]
    assert reasons == [Denial.NO_RESERVATION] * 3 + [Denial.RESOURCES]
    later = budget.open(peer(1), "11.0.1.1", peer(2), Micros(NOW + SECOND))
    assert isinstance(later, Denied) and later.why is Denial.NO_RESERVATION


def test_new_names_at_one_address_share_its_bytes() -> None:
    budget = RelayBudget(LIMITS)
    budget.reserve(peer(1), "22.0.0.1", NOW)
    total = 0
    for number in range(2, 8):
        circuit = budget.open(peer(number), "11.0.0.1", peer(1), NOW)
        if isinstance(circuit, Denied):
            assert circuit.detail == "the bytes of this hour are used up"
            continue
        budget.established(circuit, NOW)
        while grant := budget.take(circuit, peer(number), CHUNK_BYTES, NOW).size:
            total += grant
        budget.close(circuit)
    assert total == LIMITS.hourly_bytes_per_address


def test_the_target_s_bytes_are_not_spent_by_who_sends_to_it() -> None:
    budget = RelayBudget(LIMITS)
    budget.reserve(peer(1), "22.0.0.1", NOW)
    circuit = opened(budget, 2, 1)
    assert budget.take(circuit, peer(2), CHUNK_BYTES, NOW).size == CHUNK_BYTES
    assert budget.take(circuit, peer(1), 30_000, NOW).size == 30_000
    assert budget.take(circuit, peer(1), 30_000, NOW).size == LIMITS.circuit_bytes - CHUNK_BYTES - 30_000


def test_an_expired_reservation_is_none() -> None:
    budget = RelayBudget(LIMITS)
    budget.reserve(peer(1), "11.0.1.1", NOW)
    late = budget.open(peer(2), "11.0.2.1", peer(1), Micros(NOW + LIMITS.reservation_us))
    assert isinstance(late, Denied) and late.why is Denial.NO_RESERVATION


def test_a_driver_that_asks_for_too_much_is_told() -> None:
    budget = RelayBudget(LIMITS)
    budget.reserve(peer(1), "11.0.1.1", NOW)
    circuit = opened(budget, 2, 1)
    for sender, size in ((peer(2), CHUNK_BYTES + 1), (peer(2), 0), (peer(3), 1)):
        with pytest.raises(LocalError):
            budget.take(circuit, sender, size, NOW)
