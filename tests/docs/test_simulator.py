"""docs/simulator.md: every example is read by the program, every key and default is in the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

import pytest

from protocol.errors import Refused
from simulations import scenario_faults, scenario_schema
from simulations.quantities import Quantity
from simulations.scenario import FaultKind, Plot
from simulations.scenario_checks import known_names
from simulations.scenario_file import changed, read, shipped

TEXT: Final = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ERROR: Final = next(iter(re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)))
HERE: Final = Path()
START: Final = "version: 1\nname: x\nsimulation: {duration: 1h}\npopulation: {providers: {n: 10}}\n"
WHOLE: Final = START + "workload: {jobs: {arrival: poisson 1/h}, messages: {per_second: 1}}\n"

TABLES: Final[Mapping[str, tuple[Mapping[str, Quantity], str]]] = {
    "simulation": (scenario_schema.SIMULATION, "simulation"),
    "topology": (scenario_schema.TOPOLOGY, "topology"),
    "population": (scenario_schema.PROVIDER, "population.providers"),
    "jobs": (scenario_schema.JOBS, "workload.jobs"),
    "messages": (scenario_schema.MESSAGES, "workload.messages"),
    "outputs": (scenario_schema.OUTPUTS, "outputs"),
    "churn": (scenario_schema.CHURN, ""),
    "faults": (scenario_faults.WHEN, ""),
    "adversaries": (scenario_faults.ADVERSARY, ""),
}
"""Heading -> what the program reads there, and where a value of it can be set."""


def rows(heading: str, title: str = "key | what") -> list[list[str]]:
    """The cells of all tables with that title below a heading."""
    part = re.split(r"^##+ ", TEXT[TEXT.index(f"### {heading}\n") + 4 :], flags=re.MULTILINE)[0]
    found: list[list[str]] = []
    for table in part.split("\n\n"):
        if table.startswith(f"| {title}"):
            found += [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:] if line]
    return found


def test_every_example_is_a_scenario() -> None:
    assert read(EXAMPLES[0], HERE).population.providers.n == 100


def test_the_error_is_the_one_shown() -> None:
    with pytest.raises(Refused) as caught:
        read(EXAMPLES[1], HERE)
    assert f"error: {caught.value.detail} [{caught.value.code}]\nfix: {caught.value.fix}\n" == ERROR


@pytest.mark.parametrize("heading", TABLES)
def test_the_tables_have_every_key(heading: str) -> None:
    assert sorted(row[0].strip("`") for row in rows(heading)) == sorted(TABLES[heading][0])


@pytest.mark.parametrize("heading", [name for name, (_, path) in TABLES.items() if path])
def test_the_defaults_are_true(heading: str) -> None:
    usual, path = read(WHOLE, HERE), TABLES[heading][1]
    told = 0
    for key, _, value in rows(heading):
        said = re.search(r"`([^`]+)`", value)
        if said is None:
            assert value in ("—", "always up"), f"{key}: {value}"
            continue
        text = said[1]
        listed = [word.strip() for word in text[1:-1].split(",") if word] if text.startswith("[") else text
        assert changed(usual, {f"{path}.{key.strip('`')}": {} if text == "{}" else listed}) == usual, key
        told += 1
    assert told, "the table tells no default"


def test_every_fault_and_its_keys() -> None:
    found = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows("faults", "fault | ")}
    assert tuple(found) == get_args(FaultKind)
    for kind, keys in scenario_faults.FAULTS.items():
        assert {name for name in keys if name != "last"} <= found[kind], kind


def test_the_named_scenarios_and_plots_are_told() -> None:
    table = TEXT[TEXT.index("| scenario | question |") :].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == [one.name for one in shipped()]
    plots = next(row for row in rows("outputs") if row[0] == "`plots`")
    assert re.findall(r"`(\w+)`", plots[1]) == list(get_args(Plot))


def test_the_defaults_name_tables_that_exist() -> None:
    known = known_names()
    assert known.latencies is not None and "ethereum-2025" in known.latencies
    assert known.gpus is not None and "steam-2024" in known.gpus
