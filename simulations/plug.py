"""Pulls the plug in many worlds and says what it cost: `make plug`. Tables of docs/durability.md.

Every seed is the scenario `pull-the-plug` with one more way to lose a host, in turn, so that all of them meet all kinds
of lines and sizes of state.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Final

import msgspec

from simulations import scenario_file
from simulations.checkers.custody import Custody
from simulations.checkers.registry import checkers
from simulations.losses import Losses, Tally
from simulations.plug_tables import tables
from simulations.scenario import Scenario
from simulations.violation import Violation
from simulations.workers import worker_pool
from simulations.world import World

Plain = dict[str, object]

WAYS: Final[dict[str, list[Plain]]] = {
    "kill": [],
    "dead disks": [{"at": "4m", "every": "2m", "disk": {"role": "provider", "n": 1, "mode": "dead", "last": "90s"}}],
    "40 % at once": [{"at": "6m", "kill": {"role": "provider", "share": "40%", "last": "2m"}}],
    "a whole /16": [
        {"at": "5m", "every": "4m", "kill": {"role": "provider", "n": 1, "last": "2m", "together": "true"}}
    ],
    "flapping": [{"at": "4m", "every": "10s", "until": "8m", "kill": {"role": "provider", "n": 1, "last": "4s"}}],
    "split brain": [{"at": "4m", "every": "2m", "partition": {"role": "provider", "n": 2, "last": "45s"}}],
    "one-way cuts": [
        {"at": "4m", "every": "2m", "partition": {"role": "provider", "n": 2, "last": "45s", "one_way": "true"}}
    ],
    "standby dies restoring": [{"at": "4m", "every": "2m", "ambush": {"after": "2s", "last": "60s"}}],
    "steward dies": [{"at": "5m", "every": "4m", "kill": {"role": "steward", "n": 1, "last": "20s"}}],
    "clocks": [{"at": "2m", "every": "2m", "clock": {"role": "provider", "n": 2, "jump": "20s", "drift": "400ppm"}}],
    "10 s notice": [
        {"at": "4m", "every": "1m", "reclaim": {"role": "provider", "n": 1, "notice": "10s", "last": "2m"}}
    ],
    "60 s notice": [
        {"at": "4m", "every": "1m", "reclaim": {"role": "provider", "n": 1, "notice": "60s", "last": "2m"}}
    ],
}
"""What happens beside the kills of the scenario."""

CALM: Final[dict[str, list[Plain]]] = {
    "nothing": [],
    "30 % loss": [{"at": "1m", "every": "1m", "loss": {"packets": "30%", "last": "59s"}}],
    "starved watchers": [{"at": "1m", "every": "20s", "starve": {"share": "30%", "last": "4s"}}],
    "both": [
        {"at": "1m", "every": "1m", "loss": {"packets": "30%", "last": "59s"}},
        {"at": "1m", "every": "20s", "starve": {"share": "30%", "last": "4s"}},
    ],
}
"""Nobody dies: whoever is fenced was fenced wrongly."""


class Outcome(msgspec.Struct):
    """One seed."""

    seed: int
    way: str
    is_calm: bool
    tally: Tally
    violation: str = ""


def world_of(seed: int, is_calm: bool) -> tuple[str, Scenario]:
    """The way of a seed, and its world."""
    base = scenario_file.load(scenario_file.FOLDER / "pull-the-plug.yaml")
    ways = CALM if is_calm else WAYS
    way = list(ways)[seed % len(ways)]
    kept = [] if is_calm else scenario_file.plain(base)["faults"]
    assert isinstance(kept, list)
    changes: dict[str, object] = {"faults": [*kept, *ways[way]]}
    if is_calm:
        groups = scenario_file.plain(base)["population"]
        assert isinstance(groups, dict) and isinstance(groups["providers"], dict)
        changes["population.providers"] = {key: value for key, value in groups["providers"].items() if key != "churn"}
    return way, scenario_file.changed(base, changes)


def run_seed(seed: int, is_calm: bool) -> Outcome:
    """One world, every rule checked but that everything ends: long chunks outlive the run."""
    way, scenario = world_of(seed, is_calm)
    custody = Custody()
    losses = Losses()
    rules = [one for one in checkers(scenario.simulation.checks) if one.name not in ("liveness", "custody")]
    world = World(scenario, seed, None, [*rules, custody, losses])
    said = ""
    try:
        world.run()
    except Violation as violation:
        said = str(violation)
    tally = losses.tally()
    found = custody.findings
    tally.failures = [f"{one.why}, {one.reachable} of {one.needed} there" for one in found.failures]
    tally.exposures, tally.handed = len(found.exposures), found.handed
    return Outcome(seed, way, is_calm, tally, said)


def run_all(seeds: Sequence[int], calm: Sequence[int], jobs: int, out: Path) -> list[Outcome]:
    """All seeds, in `jobs` processes; each is written down when it ends."""
    outcomes: list[Outcome] = []
    with worker_pool(jobs) as pool, out.open("wb") as file:
        waiting = [pool.submit(run_seed, seed, False) for seed in seeds]
        waiting += [pool.submit(run_seed, seed, True) for seed in calm]
        for future in as_completed(waiting):
            outcomes.append(future.result())
            file.write(msgspec.json.encode(outcomes[-1]) + b"\n")
            file.flush()
            if outcomes[-1].violation:
                print(f"seed {outcomes[-1].seed} ({outcomes[-1].way}): {outcomes[-1].violation}", file=sys.stderr)
    return sorted(outcomes, key=lambda one: (one.is_calm, one.seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m simulations.plug --seeds 200 --jobs 4`. 1 when a rule is broken."""
    parser = argparse.ArgumentParser(prog="simulations.plug", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=200, help="worlds in which plugs are pulled (200)")
    parser.add_argument("--calm", type=int, default=16, help="worlds in which nobody dies (16)")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed (1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--out", type=Path, default=Path("plug.jsonl"), help="one line per seed (plug.jsonl)")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds)
    outcomes = run_all(seeds, range(given.first, given.first + given.calm), max(1, given.jobs), given.out)
    print(tables([(one.way, one.is_calm, one.tally) for one in outcomes]))
    broken = Counter(one.way for one in outcomes if one.violation)
    print(f"{len(outcomes)} worlds, {sum(broken.values())} violations")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
