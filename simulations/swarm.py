"""Random small worlds, thousands of them: faults first, then quiet, and every rule checked all the time.

The ranges are those of TigerBeetle's VOPR (2024), scaled to jobs that last minutes: a safety phase in which everything
may break at once, then a liveness phase in which nothing breaks any more and everything must end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from simulations.checkers.faultless import RAISED
from simulations.checkers.heirs import Heirs
from simulations.checkers.registry import checkers
from simulations.observer import Observer
from simulations.quiet import ending
from simulations.recent import Recent
from simulations.scenario import NS, Injection, Scenario
from simulations.swarm_scenario import scenario_of
from simulations.violation import Replayed, Violation, write_report
from simulations.workers import worker_pool
from simulations.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed gave."""

    seed: int
    violation: Violation | None
    injections: tuple[Injection, ...]
    auditor: str
    events: int
    ended: int
    """Simulated nanoseconds at the end."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was exercised, by name."""
    folder: str = ""
    """Where the report lies; empty without a violation."""


def run_seed(
    seed: int, scenario: Scenario | None = None, injections: Sequence[Injection] | None = None, out: Path | None = None
) -> Outcome:
    """One world from start to end. `injections` instead of those that the scenario gives; a report goes below `out`."""
    scenario = scenario_of(seed) if scenario is None else scenario
    found = checkers(scenario.simulation.checks)
    recent = Recent()
    world = World(scenario, seed, injections, [recent, *found])
    violation = _run(world, found)
    folder = ""
    if violation is not None and out is not None:
        names = [peer.name for peer in world.peers]
        run = Replayed(scenario, seed, tuple(world.injections))
        folder = str(write_report(out, violation, run, recent, names))
    return Outcome(
        seed=seed,
        violation=violation,
        injections=tuple(world.injections),
        auditor=world.driver.auditor.hexdigest(),
        events=world.queue.executed,
        ended=world.queue.now,
        counts=_counts(world) | _inherited(found),
        folder=folder,
    )


def _run(world: World, rules: Sequence[Observer]) -> Violation | None:
    """To the end, which comes early when everything has ended."""
    try:
        world.run(is_over=ending(rules, world))
    except Violation as violation:
        return violation
    except RAISED as error:
        return Violation("faultless", f"{type(error).__name__}: {error}", now=world.queue.now)
    return None


def _counts(world: World) -> dict[str, int]:
    """The recorder's counts, and how the jobs ended."""
    counts = dict(world.recorder.counts)
    for peer in world.peers:
        for job in peer.machines.steward.jobs.values() if peer.boots else ():
            name = f"jobs/{job.record.state}"
            counts[name] = counts.get(name, 0) + 1
    return counts


def _inherited(rules: Sequence[Observer]) -> dict[str, int]:
    """How often a provider went on from the units of another, and what became of it."""
    found = next((rule.findings for rule in rules if isinstance(rule, Heirs)), None)
    return {f"inherited/{name}": amount for name, amount in asdict(found).items()} if found is not None else {}


def run_swarm(
    seeds: Sequence[int],
    jobs: int = 1,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
    out: Path | None = None,
) -> list[Outcome]:
    """Every seed, in `jobs` processes (1: in this one). Returns them in order of seed; `on_done` hears as they end."""
    outcomes: list[Outcome] = []
    if jobs <= 1:
        for seed in seeds:
            outcomes.append(run_seed(seed, out=out))
            on_done(outcomes[-1])
        return outcomes
    with worker_pool(jobs) as pool:
        for future in as_completed([pool.submit(run_seed, seed, out=out) for seed in seeds]):
            outcomes.append(future.result())
            on_done(outcomes[-1])
    return sorted(outcomes, key=lambda outcome: outcome.seed)


SUMMED: Final = (
    "injected/", "peers/", "disk/", "messages/", "jobs/", "refused/", "emit/block", "emit/verdict", "emit/audit",
    "emit/auditor_fault", "emit/lease_ended", "emit/no_bid", "emit/liveness", "emit/refused", "fault/", "inherited/",
)  # fmt: skip
"""Counts by the beginning of their names that say what a swarm has exercised."""


def summary(outcomes: Sequence[Outcome]) -> str:
    """A table: what was exercised, how often in all, and in how many seeds."""
    totals: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        for name, amount in outcome.counts.items():
            if amount and name.startswith(SUMMED):
                total, seeds = totals.get(name, (0, 0))
                totals[name] = (total + amount, seeds + 1)
    rows = [f"{'what':<32}{'in all':>12}{'seeds':>8}"]
    rows += [f"{name:<32}{total:>12,}{seeds:>8}" for name, (total, seeds) in sorted(totals.items())]
    events = sum(outcome.events for outcome in outcomes)
    simulated = sum(outcome.ended for outcome in outcomes) // NS
    failed = sum(outcome.violation is not None for outcome in outcomes)
    rows.append(f"{len(outcomes)} seeds, {events:,} events, {simulated:,} simulated seconds, {failed} violations")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m simulations.swarm --seeds 200 --from 1 --jobs 4`. 1 when a seed breaks a rule."""
    parser = argparse.ArgumentParser(prog="simulations.swarm", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first of them (1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--out", type=Path, default=Path("violations"), help="where reports go (violations)")
    given = parser.parse_args(arguments)
    if given.seeds < 1 or given.jobs < 1:
        parser.error("--seeds and --jobs are 1 or more")
    done: list[int] = []

    def tell(outcome: Outcome) -> None:
        done.append(outcome.seed)
        if outcome.violation is not None:
            print(f"seed {outcome.seed}: {outcome.violation}\n  shoal sim replay {outcome.folder}", flush=True)
        if sys.stderr.isatty() or len(done) % 50 == 0:
            print(f"{len(done)} of {given.seeds} seeds", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr)

    outcomes = run_swarm(range(given.first, given.first + given.seeds), given.jobs, tell, given.out)
    print(summary(outcomes))
    return 1 if any(outcome.violation is not None for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
