"""What the values of a scenario must be to each other: names that exist, peers that are there, times within the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from protocol.errors import Refused
from protocol.yaml_nodes import Items, Node, Pairs, Place, wrong
from protocol.yaml_values import unknown
from simulations import trace_file
from simulations.quantities import span_text
from simulations.scenario import Adversary, Fault, Group, Scenario

GROUPS: Final = {"validator": "validators", "steward": "stewards", "provider": "providers"}
"""Role -> its key under `population`."""


@dataclass(frozen=True, slots=True)
class Known:
    """The names that a scenario may use; None where nobody knows, and anything goes."""

    latencies: Mapping[str, tuple[str, ...]] | None = None
    """Latency table -> its regions."""
    gpus: tuple[str, ...] | None = None
    strategies: tuple[str, ...] | None = None


def place_of(tree: Node, path: str) -> Place:
    """Where a value stands; of a path that is not there, where the nearest map around it stands."""
    here = tree
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(here, Pairs):
            inner = next((value for key, value in here.values if key.text == step), None)
        elif isinstance(here, Items) and step.isdecimal() and int(step) < len(here.values):
            inner = here.values[int(step)]
        else:
            inner = None
        if inner is None:
            break
        here = inner
    return here.place


@dataclass(frozen=True, slots=True)
class _Checks:
    """The checks of one scenario; `tree` says where its values stand."""

    scenario: Scenario
    tree: Node
    known: Known

    def refusal(self, path: str, detail: str, fix: str) -> Refused:
        return wrong(place_of(self.tree, path), path, detail, fix)

    def names(self) -> None:
        """Tables and strategies exist."""
        topology, groups = self.scenario.topology, self.scenario.population
        if self.known.latencies is not None:
            self._name("topology.latency", topology.latency, (*self.known.latencies, "uniform"), "latency table")
        if self.known.gpus is not None:
            self._name("population.providers.gpus", groups.providers.gpus, (*self.known.gpus, "uniform"), "mix of GPUs")
        for index, adversary in enumerate(self.scenario.adversaries):
            if self.known.strategies is not None:
                self._name(f"adversaries[{index}].strategy", adversary.strategy, self.known.strategies, "strategy")

    def _name(self, path: str, name: str, known: tuple[str, ...], what: str) -> None:
        if name not in known:
            fix = unknown(name, known, f"Known: {', '.join(known)}.")
            raise self.refusal(path, f"there is no {what} `{name:.60}`", fix)

    def peers(self) -> None:
        """Somebody keeps the ledger, carries the jobs, and computes."""
        groups = self.scenario.population
        if groups.validators.n == 0:
            raise self.refusal("population.validators.n", "nobody keeps the ledger", "Have at least one validator.")
        if self.scenario.workload.jobs is not None:
            for role in ("stewards", "providers"):
                if getattr(groups, role).n == 0:
                    fix = f"Have some {role}, or no `workload.jobs`."
                    raise self.refusal(f"population.{role}.n", f"there are jobs and no {role}", fix)

    def traces(self) -> None:
        """Their files can be read."""
        for role in GROUPS.values():
            churn = getattr(self.scenario.population, role).churn
            if churn is not None and churn.model == "trace":
                trace_file.read(Path(churn.trace))

    def group(self, role: str) -> Group:
        """The peers of a role."""
        found = getattr(self.scenario.population, GROUPS[role])
        assert isinstance(found, Group)
        return found

    def fault(self, index: int, fault: Fault) -> None:
        """It hits somebody who is there, at a time that comes."""
        path = f"faults[{index}]"
        self._time(f"{path}.at", fault.at)
        duration = self.scenario.simulation.duration
        if fault.until and not fault.at <= fault.until <= duration:
            detail = f"{span_text(fault.until)} is not between `at`, {span_text(fault.at)}, and {span_text(duration)}"
            raise self.refusal(f"{path}.until", detail, "Leave `until` out for faults until the end.")
        what = f"{path}.{fault.kind}"
        if fault.kind == "clock" and not fault.amount and not fault.drift_ppm:
            raise self.refusal(what, "the clock neither jumps nor drifts", "Add `jump: 288s` or `drift: 500ppm`.")
        if fault.kind == "partition":
            self._partition(what, fault)
        elif fault.kind not in ("loss", "ambush"):
            self._who(what, fault)

    def _time(self, path: str, time: int) -> None:
        duration = self.scenario.simulation.duration
        if time >= duration:
            detail = f"{span_text(time)} is not before the end of the simulation, {span_text(duration)}"
            raise self.refusal(path, detail, "Choose an earlier time, or a longer `simulation.duration`.")

    def _who(self, what: str, fault: Fault) -> None:
        self._either(what, fault.n, fault.share)
        groups = self.scenario.population
        hit = groups.stewards.n + groups.providers.n if fault.role is None else self.group(fault.role).n
        if fault.role is not None and hit == 0:
            raise self.refusal(
                f"{what}.role",
                f"there is no {fault.role} in this scenario",
                f"Add some under `population.{GROUPS[fault.role]}`, or hit another role.",
            )
        if fault.n > hit:
            who = f"{fault.role}s" if fault.role else "peers"
            raise self.refusal(f"{what}.n", f"{fault.n} are hit, and there are {hit} {who}", f"Choose at most {hit}.")

    def _either(self, path: str, n: int, share: float) -> None:
        if (n > 0) == (share > 0):
            said = "both `n` and `share`" if n else "neither `n` nor `share`"
            raise self.refusal(path, f"it has {said}", "Say how many: `n: 1`, or `share: 10%`.")

    def _partition(self, what: str, fault: Fault) -> None:
        if not fault.groups:
            if fault.n or fault.share:
                self._who(what, fault)
            return
        if fault.n or fault.share or fault.role:
            detail = "both `groups` and a number of peers or a role are said"
            raise self.refusal(what, detail, "Name the groups of one side, or how many peers are on it.")
        table = (self.known.latencies or {}).get(self.scenario.topology.latency)
        roles = (*GROUPS, *GROUPS.values())
        for number, name in enumerate(fault.groups):
            if table is not None and name not in (*table, *roles):
                known = ", ".join((*table, *GROUPS))
                fix = unknown(name, (*table, *roles), f"Known: {known}.")
                raise self.refusal(f"{what}.groups[{number}]", f"there is no region or role `{name:.60}`", fix)

    def adversary(self, index: int, adversary: Adversary) -> None:
        """It turns before the end."""
        self._time(f"adversaries[{index}].at", adversary.at)


def check(scenario: Scenario, tree: Node, known: Known) -> None:
    """Refuse (code `bad_scenario`) what does not go together, at its place in the file; traces by their own codes."""
    checks = _Checks(scenario, tree, known)
    checks.names()
    checks.peers()
    checks.traces()
    for index, fault in enumerate(scenario.faults):
        checks.fault(index, fault)
    for index, adversary in enumerate(scenario.adversaries):
        checks.adversary(index, adversary)


def known_names() -> Known:
    """The names that this program has, with the strategies that are installed beside it."""
    from simulations.adversaries import registry
    from simulations.tables import gpus, latency

    installed = [point.name for point in entry_points(group="shoal.adversaries")]
    strategies = tuple(sorted({*registry.STRATEGIES, *installed}))
    latencies = {name: table.regions for name, table in latency.TABLES.items()}
    return Known(latencies=latencies, gpus=tuple(sorted(gpus.MIXES)), strategies=strategies or None)
