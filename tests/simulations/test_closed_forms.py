"""The formulas against each other, against known values, and against small simulations of the same thing."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations import closed_forms
from simulations.gossip_params import SECOND
from simulations.queue import Queue


def test_known_values() -> None:
    assert closed_forms.erlang_c(1, 0.8) == pytest.approx(0.8)
    assert closed_forms.erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert closed_forms.waiting_time(1, 0.5, 1.0) == pytest.approx(1.0)
    assert closed_forms.push_coverage(1.0) == closed_forms.push_coverage(0.3) == 0.0
    assert closed_forms.push_coverage(2.0) == pytest.approx(0.796812, abs=1e-6)
    assert closed_forms.mesh_coverage(6, 1.0) == 1.0
    assert closed_forms.mesh_coverage(6, 0.1) == pytest.approx(0.0, abs=1e-6)
    assert closed_forms.duplicates(10, 6) == 42
    assert closed_forms.repair_rate(20, 3600.0) == pytest.approx(20 / 3600)
    assert closed_forms.repair_bandwidth(20, 10, 1000, 100.0) == pytest.approx(200.0)
    assert closed_forms.time_to_loss(1, 1, 50.0, 1.0) == 50.0
    assert closed_forms.time_to_loss(2, 1, 10.0, 5.0) == pytest.approx(5.0 + 10.0 * (1 + 5.0 / 5.0))


@given(st.integers(1, 50), st.floats(0.01, 0.99))
def test_waiting_is_a_probability_that_falls_with_servers(servers: int, share: float) -> None:
    load = servers * share
    chance = closed_forms.erlang_c(servers, load)
    assert 0.0 <= chance <= 1.0
    assert closed_forms.erlang_c(servers + 1, load) <= chance


@pytest.mark.parametrize("fanout", [1.5, 2.0, 3.0, 5.0])
def test_push_gossip_reaches_what_the_formula_says(fanout: float) -> None:
    """Everybody who hears it tells a Poisson number of random peers, once."""
    count, random = 4000, Random(1)
    reached: list[float] = []
    for _ in range(30):
        heard = {0}
        waiting = [0]
        while waiting:
            waiting.pop()
            due = random.expovariate(fanout)
            while due < 1.0:
                other = int(random.random() * count)
                if other not in heard:
                    heard.add(other)
                    waiting.append(other)
                due += random.expovariate(fanout)
        reached.append(len(heard) / count)
    took_hold = [share for share in reached if share > 0.1]
    assert sum(took_hold) / len(took_hold) == pytest.approx(closed_forms.push_coverage(fanout), abs=0.015)


class Counter:
    """Jobs that wait for one of `servers` workers, on the simulator's queue."""

    def __init__(self, servers: int, per_second: float, service: float, random: Random) -> None:
        self.queue = Queue()
        self.waited: list[int] = []
        self._free = servers
        self._line: list[int] = []
        self._random = random
        self._between, self._service = per_second, 1.0 / service
        self.queue.at(0, self._come, None)

    def _come(self, _: None) -> None:
        now = self.queue.now
        self._line.append(now)
        self.queue.at(now + int(self._random.expovariate(self._between) * SECOND), self._come, None)
        self._serve()

    def _serve(self) -> None:
        if self._free and self._line:
            self._free -= 1
            now = self.queue.now
            self.waited.append(now - self._line.pop(0))
            self.queue.at(now + int(self._random.expovariate(self._service) * SECOND), self._end, None)

    def _end(self, _: None) -> None:
        self._free += 1
        self._serve()


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 3.0), (12, 9.0)])
def test_a_queue_of_jobs_waits_as_erlang_says(servers: int, load: float) -> None:
    waited: list[int] = []
    for seed in range(5):
        counter = Counter(servers, load / 90.0, 90.0, Random(seed))
        counter.queue.run(int(50_000 * 90.0 / load) * SECOND)
        waited += counter.waited
    mean = sum(waited) / len(waited) / SECOND
    assert mean == pytest.approx(closed_forms.waiting_time(servers, load / 90.0, 90.0), rel=0.06)
    share = sum(1 for each in waited if each) / len(waited)
    assert share == pytest.approx(closed_forms.erlang_c(servers, load), rel=0.03)


@pytest.mark.parametrize(("pieces", "needed", "repair"), [(3, 1, 3.0), (5, 3, 1.0), (6, 4, 0.5)])
def test_pieces_are_repaired_and_lost_at_the_rates_of_the_formulas(pieces: int, needed: int, repair: float) -> None:
    random, session = Random(5), 10.0
    until_loss, repairs, piece_seconds = [], 0, 0.0
    for _ in range(1500):
        alive, time = pieces, 0.0
        while alive >= needed:
            deaths, births = alive / session, (pieces - alive) / repair
            step = random.expovariate(deaths + births)
            time += step
            piece_seconds += alive * step
            is_birth = random.random() * (deaths + births) < births
            alive += 1 if is_birth else -1
            repairs += is_birth
        until_loss.append(time)
    mean = sum(until_loss) / len(until_loss)
    assert mean == pytest.approx(closed_forms.time_to_loss(pieces, needed, session, repair), rel=0.08)
    lost = len(until_loss) * (pieces - needed + 1)
    assert repairs + lost == pytest.approx(closed_forms.repair_rate(piece_seconds, session), rel=0.03)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: closed_forms.erlang_c(2, 2.0),
        lambda: closed_forms.erlang_c(0, 0.0),
        lambda: closed_forms.push_coverage(-1.0),
        lambda: closed_forms.mesh_coverage(6, 1.5),
        lambda: closed_forms.mean_hops(100, 2),
        lambda: closed_forms.repair_rate(3, 0.0),
        lambda: closed_forms.time_to_loss(3, 4, 1.0, 1.0),
        lambda: closed_forms.push_coverage(float("nan")),
    ],
)
def test_senseless_questions_are_refused(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(Refused):
        ask()
