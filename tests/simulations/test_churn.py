"""Sessions have the distribution asked for, and time 0 is nothing special."""

from __future__ import annotations

from math import gamma, log
from pathlib import Path
from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.churn import is_up_at, schedule, sessions
from simulations.scenario import NS, Churn

HOUR = 3_600 * NS
IPFS = Churn(model="weibull", k=0.61, scale=round(3.66 * HOUR), down=2 * HOUR)
STEADY = Churn(model="exponential", scale=HOUR, down=HOUR)

models = st.builds(
    Churn,
    model=st.sampled_from(["weibull", "exponential"]),
    k=st.floats(0.3, 3.0),
    scale=st.integers(60 * NS, 10 * HOUR),
    down=st.integers(0, HOUR),
)


@given(churn=models, seed=st.integers(0, 1 << 32), duration=st.integers(1, HOUR))
def test_sessions_are_in_order_apart_and_within_the_run(churn: Churn, seed: int, duration: int) -> None:
    found = sessions(churn, Random(seed), duration)
    edges = [edge for session in found for edge in session]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= duration for edge in edges)
    assert found == sessions(churn, Random(seed), duration)


def test_whole_sessions_are_weibull() -> None:
    """Median and mean against the closed forms; the first and last of a host are cut and left out."""
    whole = [end - start for start, end in sessions(IPFS, Random(1), 60_000 * HOUR)[1:-1]]
    assert len(whole) > 5_000
    assert median(whole) == pytest.approx(IPFS.scale * log(2) ** (1 / IPFS.k), rel=0.05)
    assert mean(whole) == pytest.approx(IPFS.scale * gamma(1 + 1 / IPFS.k), rel=0.05)


def test_the_fit_says_what_was_measured() -> None:
    """Half of all sessions last at most 2 h, four fifths at most 8 h."""
    whole = sorted(end - start for start, end in sessions(IPFS, Random(2), 60_000 * HOUR)[1:-1])
    assert 0.47 < sum(length <= 2 * HOUR for length in whole) / len(whole) < 0.53
    assert 0.77 < sum(length <= 8 * HOUR for length in whole) / len(whole) < 0.83


@pytest.mark.parametrize("churn", [IPFS, STEADY])
def test_the_run_starts_in_equilibrium(churn: Churn) -> None:
    """As many hosts are up at once as later, and it is what sessions and absences say."""
    hosts = [sessions(churn, Random(seed), 40 * HOUR) for seed in range(4_000)]
    up = churn.scale * gamma(1 + 1 / churn.k)
    for time in (0, 5 * HOUR, 39 * HOUR):
        assert sum(is_up_at(host, time) for host in hosts) / 4_000 == pytest.approx(up / (up + churn.down), abs=0.025)


def test_the_first_session_is_what_is_left_of_one() -> None:
    """Residual life in equilibrium: its mean is E[x²] / 2 E[x]; of an exponential that is the mean itself."""
    firsts = [sessions(IPFS, Random(seed), 2_000 * HOUR)[0] for seed in range(2_500)]
    left = [end for start, end in firsts if start == 0]
    expected = IPFS.scale * gamma(1 + 2 / IPFS.k) / gamma(1 + 1 / IPFS.k) / 2
    assert mean(left) == pytest.approx(expected, rel=0.1)


def test_every_host_of_a_group_has_its_own_sessions() -> None:
    hosts = schedule(STEADY, 5, lambda peer: Random(100 + peer), 10 * HOUR)
    assert hosts == [sessions(STEADY, Random(100 + peer), 10 * HOUR) for peer in range(5)]
    assert hosts[0] != hosts[1]


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    file = tmp_path / "event_trace.tab"
    file.write_text("0\t0\t7\t0\ta\t1\t0\t10\t\n1\t0\t8\t0\tb\t1\t5\t20\t\n")
    churn = Churn(model="trace", trace=str(file))
    assert schedule(churn, 3, Random, 15 * NS) == [[(0, 10 * NS)], [(5 * NS, 15 * NS)], [(0, 10 * NS)]]
    with pytest.raises(Refused, match="not drawn"):
        sessions(churn, Random(1), HOUR)


@pytest.mark.parametrize(
    ("churn", "key"),
    [
        (Churn(model="weibull", k=0.0, scale=HOUR), "k"),
        (Churn(model="weibull", k=float("nan"), scale=HOUR), "k"),
        (Churn(model="weibull", k=0.61), "scale"),
        (Churn(model="exponential", scale=1), "scale"),
        (Churn(model="exponential", scale=HOUR, down=-1), "absence"),
    ],
)
def test_parameters_that_make_no_distribution_are_refused(churn: Churn, key: str) -> None:
    with pytest.raises(Refused, match=key) as caught:
        sessions(churn, Random(1), HOUR)
    assert caught.value.code == "bad_churn" and caught.value.fix
