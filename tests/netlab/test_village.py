"""Real nodes behind the laboratory's routers: who reaches whom, and a job of examples/ across all of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.netlab import faults, trials
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.pairs import Reached, Watch, expected, matrix
from benchmarks.netlab.routers import KINDS, ROUTERS, Kind
from benchmarks.netlab.village import WAYS, Village
from protocol.errors import Unavailable
from protocol.overlay.punch import GIVE_UP_US, PUNCH_AGAIN_US
from protocol.units import SECOND
from shoal.processes import until

SCRIPT = Path(__file__).parents[2] / "examples" / "script" / "job.yml"
RENDER = SCRIPT.parents[1] / "render" / "job.yml"
PATIENCE_S = 240.0
SETTLED_S = (PUNCH_AGAIN_US + 2 * GIVE_UP_US) / SECOND + 120
"""A first punch may fail on a busy machine; the second comes a minute later, and not before."""
NAT_WORDS = {"none": "none", "independent": "cone", "dependent": "symmetric"}
"""What a node calls the mapping of its router."""


def misses(kinds: dict[str, Kind], pairs: dict[tuple[str, str], Reached]) -> list[str]:
    """Pairs that are worse off than their routers allow."""
    wrong = []
    names = sorted(kinds)
    for one in names:
        for other in names[names.index(one) + 1 :]:
            way = expected(kinds[one], kinds[other])
            found = pairs.get((one, other))
            if found is None or WAYS.index(found.best) > WAYS.index(way):
                wrong.append(f"{one} - {other}: {found.best if found else 'none'} instead of {way}")
    return wrong


@pytest.mark.alone
def test_a_punched_and_a_relayed_pair_do_a_job(lab: Laboratory, make_village: Callable[[], Village]) -> None:
    village = make_village()
    kinds: dict[str, Kind] = {"remapping": "remapping", "cone": "port-restricted", "symmetric": "symmetric"}
    for name, kind in kinds.items():
        village.settle(lab.house(name, kind).host)
    with Watch(village) as watch:
        village.up()
        job = village.submit(SCRIPT)
        status = village.settled(job, PATIENCE_S)
        assert {village.peer_names[chunk.provider or ""] for chunk in status.chunks} <= set(kinds)
        public = {pair: reached for pair, reached in watch.pairs.items() if "steward" in pair}
        assert {name for pair in public for name in pair} >= set(kinds), "everybody dials the public steward"
        assert all(reached.best in ("direct", "connected") for reached in public.values())
        if not village.knows_paths():
            return
        with suppress(Unavailable):
            until("every pair is at its best", lambda: not misses(kinds, watch.pairs) or None, [], SETTLED_S)
    assert misses(kinds, watch.pairs) == [], village.said("shoal.reach")
    assert watch.pairs["cone", "remapping"].best == "punched"
    assert watch.pairs["cone", "symmetric"].best == "relayed"


@pytest.mark.netlab
def test_ten_peers_behind_all_routers_do_both_jobs(lab: Laboratory, make_village: Callable[[], Village]) -> None:
    village = make_village()
    kinds: dict[str, Kind] = {kind: kind for kind in KINDS if kind != "public"}
    for name, kind in kinds.items():
        village.settle(lab.house(name, kind).host)
    with Watch(village) as watch:
        village.up()
        assert len(village.names) == 10
        for job in (SCRIPT, RENDER):
            status = village.settled(village.submit(job), PATIENCE_S)
            assert status.money is not None and status.money.paid > 0
        if village.knows_paths():
            with suppress(Unavailable):
                until("every pair is at its best", lambda: not misses(kinds, watch.pairs) or None, [], SETTLED_S)
            assert misses(kinds, watch.pairs) == [], village.said("shoal.reach")
            beliefs = {name: NAT_WORDS[ROUTERS[kind].mapping] for name, kind in kinds.items()}

            def right() -> bool | None:
                return {name: village.nat(name) for name in kinds} == beliefs or None

            until("every node knows its router", right, [], 60)
    table = matrix(watch.pairs, village.names)
    assert table.count("\n") == len(village.names) + 1
    assert sum(table.count(way) for way in ("direct", "connected")) >= 17, "everybody reaches both public nodes"


@pytest.mark.netlab
def test_a_provider_comes_back_after_its_router_lost_everything(
    lab: Laboratory, make_village: Callable[[], Village]
) -> None:
    village = make_village()
    village.settle(lab.house("home", "remapping").host)
    village.settle(lab.house("other", "cgnat").host)
    village.up()
    for house in (village.host("home").house, village.host("other").house):
        faults.reboot(house)
        faults.move(house)
    village.settled(village.submit(SCRIPT), PATIENCE_S)
    until("both are back", lambda: village.is_whole() or None, [], PATIENCE_S)


@pytest.mark.netlab
def test_a_node_is_restarted_with_another_clock(lab: Laboratory, make_village: Callable[[], Village]) -> None:
    village = make_village()
    village.settle(lab.house("late", "full-cone").host)
    village.settle(lab.house("home", "full-cone").host)
    village.up()
    village.reclock("late", -trials.SKEW_S)
    with village.control("late") as late, village.control("steward") as steward:
        times = steward.call("node.status")["now"], late.call("node.status")["now"]
    assert isinstance(times[0], int) and isinstance(times[1], int)
    assert abs(times[0] - times[1] - trials.SKEW_S * 1e6) < 10e6
