"""A job of examples/ completes under every fault, on one village of real nodes that is struck again and again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.netlab import ground, trials
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.village import Village
from protocol.errors import Refused

pytestmark = pytest.mark.netlab


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    """Five providers behind four kinds of routers and a public one, on lines of 10 ms."""
    if why := ground.missing():
        pytest.skip(why)
    with Laboratory() as lab:
        made = trials.settle(lab, tmp_path_factory.mktemp("trials") / "net", lambda text: None)
        try:
            yield made
        finally:
            made.down()


@pytest.mark.parametrize("fault", trials.FAULTS)
def test_the_job_completes(village: Village, fault: str) -> None:
    trial = trials.attempt(village, fault)
    assert trial.seconds < trials.JOB_S
    if fault in ("half-open", "asleep", "relay killed"):
        assert trial.repeated >= 1, "the struck provider's chunk was made again by somebody else"


def test_a_fault_that_does_not_exist(village: Village) -> None:
    with pytest.raises(Refused, match="no fault 'flood'"):
        trials.attempt(village, "flood")
