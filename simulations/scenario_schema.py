"""Every key that a scenario file may have, and how its value is read and written. Guide: docs/simulator.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

import msgspec

from protocol.proof import SAMPLES_MAX, UNITS_MAX
from protocol.yaml_nodes import Node, wrong
from protocol.yaml_values import mismatch
from simulations import churn, quantities, scenario
from simulations.quantities import Quantity
from simulations.scenario_faults import adversary, fault
from simulations.scenario_forms import arrival, mapping, optional, pipe, section, times

PEERS_MAX: Final = 100_000
"""Of one role. Memory ends before: 10,000 peers need about 2 GiB."""
CHUNKS_MAX: Final = 4_096
"""Of one job, as in a job file."""
AUDITORS_MAX: Final = 5
"""Of one claim, as in a job file."""
SLACK: Final = 0.001
"""By so much may shares miss a sum of 1: thirds are written with three digits."""


def _check_churn(node: Node, key: str, made: msgspec.Struct) -> None:
    assert isinstance(made, scenario.Churn)
    if made.model == "trace":
        if not made.trace:
            detail = "a trace needs its file"
            raise wrong(node.place, f"{key}.trace", detail, "Add `trace: my-trace.tab`.", code="missing_key")
    elif made.scale == 0:
        detail = f"a {made.model} churn needs the length of its sessions"
        raise wrong(node.place, f"{key}.scale", detail, "Add `scale: 4h`.", code="missing_key")


def _check_topology(node: Node, key: str, made: msgspec.Struct) -> None:
    assert isinstance(made, scenario.Topology)
    for name, total in (
        ("nat", sum(made.nat.values())),
        ("bandwidth", sum(one.share for one in made.bandwidth.values())),
    ):
        if getattr(made, name) and abs(total - 1) > SLACK:
            detail = f"the shares add up to {quantities.decimal_text(round(total, 6))}, not to 1"
            raise wrong(node.place, f"{key}.{name}", detail, "Make the shares of all classes together 100%.")


def _check_simulation(node: Node, key: str, made: msgspec.Struct) -> None:
    assert isinstance(made, scenario.Simulation)
    if made.warmup >= made.duration:
        detail = f"the warm-up is not over before the end, {quantities.span_text(made.duration)}"
        raise wrong(node.place, f"{key}.warmup", detail, "Make `warmup` shorter, or `duration` longer.")


CHURN: Final[Mapping[str, Quantity]] = {
    "model": quantities.one_of(("weibull", "exponential", "trace")),
    "k": quantities.number(churn.K_MIN, churn.K_MAX),
    "scale": quantities.span(churn.SESSION_MIN),
    "down": quantities.span(1),
    "daily": quantities.number(0, churn.DAILY_MAX),
    "trace": quantities.text(500),
}
SIMULATION: Final[Mapping[str, Quantity]] = {
    "duration": quantities.span(1),
    "settle": quantities.span(),
    "warmup": quantities.span(),
    "seeds": quantities.seeds(),
    "wire": quantities.one_of(("checked", "trusted")),
    "replicas": quantities.one_of(("own", "shared")),
    "economics": quantities.one_of(("none", "default")),
    "gossip": quantities.one_of(("gossipsub", "direct")),
    "checks": quantities.each(quantities.one_of(get_args(scenario.Check)), "a list of checks"),
    "stop_on_violation": quantities.flag(),
}
TOPOLOGY: Final[Mapping[str, Quantity]] = {
    "latency": quantities.name("the name of a latency table, or uniform"),
    "delay": quantities.span(),
    "jitter": quantities.share(),
    "loss": quantities.share(),
    "replay": quantities.share(),
    "bandwidth": mapping(pipe()),
    "nat": mapping(quantities.share(), ("public", "cone", "symmetric")),
    "relay": quantities.flag(),
}
ORDERER: Final[Mapping[str, Quantity]] = {
    "n": quantities.count(0, PEERS_MAX),
    "churn": optional(section(scenario.Churn, CHURN, check=_check_churn)),
    "stake": quantities.money(),
    "offer_interval": quantities.span(1),
}
"""Of peers that do not compute: validators and stewards."""
PROVIDER: Final[Mapping[str, Quantity]] = {
    **ORDERER,
    "slots": quantities.count(1, 1024),
    "gpus": quantities.name("the name of a mix of GPUs, or uniform"),
    "price": quantities.money(),
    "price_spread": quantities.number(0, 10),
    "undercut": quantities.share(),
    "straggle": quantities.share(),
    "corrupt": quantities.share(),
}
JOBS: Final[Mapping[str, Quantity]] = {
    "arrival": arrival(),
    "chunks": quantities.count(1, CHUNKS_MAX),
    "reduce": quantities.flag(),
    "chunk_time": times(),
    "output": quantities.size(),
    "price_max": quantities.money(),
    "audit": quantities.share(),
    "limit": quantities.count(0, 10**9),
    "state": quantities.each(quantities.size(1), "a list of sizes such as [240MB, 4GiB]", may_repeat=True),
    "every": quantities.span(),
    "units": quantities.count(0, UNITS_MAX),
    "samples": quantities.count(1, SAMPLES_MAX),
    "auditors": quantities.count(1, AUDITORS_MAX),
    "numeric": quantities.one_of(get_args(scenario.NumericClass)),
}
MESSAGES: Final[Mapping[str, Quantity]] = {
    "per_second": quantities.number(0.001, 100_000, "messages per second"),
    "size": quantities.size(1),
}
OUTPUTS: Final[Mapping[str, Quantity]] = {
    "metrics": quantities.one_of(("parquet", "csv")),
    "trace": quantities.share(),
    "events": quantities.flag(),
    "plots": quantities.each(quantities.one_of(get_args(scenario.Plot)), "a list of plots"),
}

_HINT: Final = "Only providers compute: put it under `providers`."
_COMPUTES: Final = {name: _HINT for name in PROVIDER if name not in ORDERER}
_ORDERS: Final = section(scenario.Group, ORDERER, _COMPUTES, fixed={"slots": 0})
POPULATION: Final[Mapping[str, Quantity]] = {
    "providers": section(scenario.Group, PROVIDER),
    "stewards": _ORDERS,
    "validators": _ORDERS,
}
WORKLOAD: Final[Mapping[str, Quantity]] = {
    "jobs": optional(section(scenario.Jobs, JOBS)),
    "messages": optional(section(scenario.Chatter, MESSAGES)),
}


def _version() -> Quantity:
    def read(node: Node, key: str) -> Literal[1]:
        form = "`1`, the version of the form of this file"
        if cast("int", quantities.count(0, 10**6).read(node, key)) != 1:
            raise mismatch(node, key, form, "Write `version: 1`; this program reads no other.")
        return 1

    return Quantity("1", read, str)


SCENARIO: Final[Mapping[str, Quantity]] = {
    "version": _version(),
    "name": quantities.name("a name such as churn-1"),
    "about": quantities.text(2_000),
    "simulation": section(scenario.Simulation, SIMULATION, check=_check_simulation),
    "topology": section(scenario.Topology, TOPOLOGY, check=_check_topology),
    "population": section(scenario.Population, POPULATION),
    "workload": section(scenario.Workload, WORKLOAD),
    "faults": quantities.each(fault(), "a list of faults", may_repeat=True),
    "adversaries": quantities.each(adversary(), "a list of adversaries", may_repeat=True),
    "outputs": section(scenario.Outputs, OUTPUTS),
}
HINTS: Final = {
    "seed": "Seeds are in `simulation.seeds`.",
    "seeds": "Put it under `simulation`.",
    "duration": "Put it under `simulation`.",
    "providers": "Put it under `population`.",
    "validators": "Put it under `population`.",
    "jobs": "Put it under `workload`.",
    "engine": "There is one engine.",
}
"""What to say about keys that people try at the top."""

TOP: Final = section(scenario.Scenario, SCENARIO, HINTS)
