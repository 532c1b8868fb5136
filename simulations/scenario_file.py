"""The scenario file: YAML text -> `Scenario`, and back. Guide: docs/simulator.md; every key: scenario_schema.py.

Every refusal begins with file:line:column and the path of the key, says what was expected and found, and carries a fix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec
import yaml

from protocol.errors import Refused
from protocol.yaml_nodes import TEXT_BYTES_MAX, Items, Node, Pairs, Place, Scalar, parse, wrong
from protocol.yaml_values import unknown
from simulations import scenario_checks, scenario_schema
from simulations.quantities import Plain, decimal_text
from simulations.scenario import Scenario
from simulations.scenario_checks import Known

CODE: Final = "bad_scenario"
FOLDER: Final = Path(__file__).parent / "scenarios"
"""The scenarios that come with the program."""

_STEP: Final = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, slots=True)
class Named:
    """A scenario that comes with the program."""

    name: str
    path: Path
    about: str


def shipped() -> list[Named]:
    """All that come with the program, by name."""
    return [Named(path.stem, path, load(path).about) for path in sorted(FOLDER.glob("*.yaml"))]


def find(name: str) -> Path:
    """The file that a word of the command line means: a path, or the short name of a shipped scenario."""
    path = Path(name)
    if path.is_file() or "/" in name or path.suffix in (".yaml", ".yml"):
        return path
    names = [one.stem for one in sorted(FOLDER.glob("*.yaml"))]
    if name in names:
        return FOLDER / f"{name}.yaml"
    fix = unknown(name, names, f"Give the path of a scenario file, or one of {', '.join(names)}.")
    raise Refused(f"there is no scenario `{name:.80}`", code="file_missing", fix=fix)


def load(path: Path, known: Known | None = None) -> Scenario:
    """Read a scenario from disk. `Refused` names file:line:column and key."""
    try:
        with path.open("rb") as stream:
            data = stream.read(TEXT_BYTES_MAX + 4)
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror}"
        fix = "Give the path of a scenario file, or a name that `shoal sim list` shows."
        raise Refused(detail, code="file_missing", fix=fix) from error
    try:
        text = data.decode("utf-8", "ignore" if len(data) > TEXT_BYTES_MAX else "strict")
    except UnicodeDecodeError as error:
        place = Place(path.name, data[: error.start].count(b"\n") + 1, 1, CODE)
        raise wrong(place, "", "not UTF-8 text", "Save the file as UTF-8.", code="bad_yaml") from error
    return read(text, path.parent, path.name, known)


def read(text: str, folder: Path, file: str = "scenario.yaml", known: Known | None = None) -> Scenario:
    """Read a scenario's text; the paths of traces start at `folder`. `known` holds the names that it may use; without
    it, those of the program."""
    return _understood(parse(text, file, CODE, "version: 1"), folder, known)


def changed(before: Scenario, changes: Mapping[str, object], known: Known | None = None) -> Scenario:
    """The scenario with other values at dotted keys, as its file would say them: `population.providers.n`, 200;
    `faults.0.kill.last`, "5m". `Refused` as if the file had said so."""
    tree = plain(before)
    for key, value in changes.items():
        _put(tree, key, _plain_value(value))
    return _understood(_nodes(tree, Place("change", 1, 1, CODE)), Path(), known)


def plain(scenario: Scenario) -> dict[str, Plain]:
    """What a file would say: text, lists and maps; values that are as usual are left out."""
    tree = scenario_schema.TOP.write(scenario)
    assert isinstance(tree, dict)
    return {"version": "1", **tree}


def text_of(scenario: Scenario) -> str:
    """A file that reads as this scenario."""
    return yaml.safe_dump(_typed(plain(scenario)), sort_keys=False, allow_unicode=True, width=110)


def _understood(tree: Node, folder: Path, known: Known | None) -> Scenario:
    made = scenario_schema.TOP.read(tree, "")
    assert isinstance(made, Scenario)
    made = _located(made, folder)
    scenario_checks.check(made, tree, scenario_checks.known_names() if known is None else known)
    return made


def _located(scenario: Scenario, folder: Path) -> Scenario:
    """Paths of traces, whole: a run directory keeps the scenario, and is read from anywhere."""
    groups = {}
    for role in ("validators", "stewards", "providers"):
        group = getattr(scenario.population, role)
        if group.churn is not None and group.churn.trace:
            churn = msgspec.structs.replace(group.churn, trace=str((folder / group.churn.trace).absolute()))
            groups[role] = msgspec.structs.replace(group, churn=churn)
    return msgspec.structs.replace(scenario, population=msgspec.structs.replace(scenario.population, **groups))


# ── dotted keys ──────────────────────────────────────────────────────────────────────────────────────────────────────
def _put(tree: Plain, key: str, value: Plain) -> None:
    """Set one value in the tree; maps that are not there yet are made."""
    steps = _STEP.findall(key)
    if not steps or len(steps) > 8:
        raise Refused(f"`{key:.80}` is no key", code=CODE, fix="Write a dotted key such as population.providers.n.")
    here = tree
    for depth, step in enumerate(steps):
        is_last = depth == len(steps) - 1
        if isinstance(here, list):
            if not step.isdecimal() or int(step) >= len(here):
                detail = f"`{key:.80}`: the list has {len(here)} entries, numbered from 0; there is no {step:.20}"
                raise Refused(detail, code=CODE, fix="Name an entry by its number, such as faults.0.")
            if is_last:
                here[int(step)] = value
            here = here[int(step)]
        elif isinstance(here, dict):
            if is_last:
                here[step] = value
            here = here.setdefault(step, {})
        else:
            raise Refused(f"`{key:.80}`: there is nothing below {steps[depth - 1]}", code=CODE, fix="Shorten the key.")


def _plain_value(value: object) -> Plain:
    """A Python value as YAML would have it."""
    if isinstance(value, Mapping):
        return {str(name): _plain_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain_value(item) for item in value]
    if isinstance(value, bool):
        return str(value).lower()
    return decimal_text(value) if isinstance(value, float) and isfinite(value) else str(value)


def _nodes(tree: Plain, place: Place) -> Node:
    """The tree as if it had been read, all at one place."""
    if isinstance(tree, dict):
        return Pairs(place, tuple((Scalar(place, key, True), _nodes(item, place)) for key, item in tree.items()))
    if isinstance(tree, list):
        return Items(place, tuple(_nodes(item, place) for item in tree))
    return Scalar(place, tree, False)


def _typed(tree: Plain) -> object:
    """Numbers as numbers, so that YAML does not quote them."""
    if isinstance(tree, dict):
        return {key: _typed(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_typed(item) for item in tree]
    if re.fullmatch(r"0|-?[1-9]\d{0,18}", tree):
        return int(tree)
    if re.fullmatch(r"-?\d+\.\d+", tree) and repr(float(tree)) == tree:
        return float(tree)
    return {"true": True, "false": False}.get(tree, tree)
