"""specs/17-simulator.md against simulations/."""

from __future__ import annotations

import ast
import importlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast, get_args

from hypothesis import given
from hypothesis import strategies as st

import specs
from simulations import chance, run_directory, scenario
from simulations.auditor import Auditor
from simulations.checkers.registry import CHECKERS
from simulations.driver import TICK_GAP_NS
from simulations.network import Network
from simulations.packets import SURVIVES
from simulations.places import place
from simulations.queue import Queue
from simulations.scenario import NS, Topology

SPEC = specs.load("17-simulator")
FOLDER = Path(chance.__file__).parent
MODULES = (
    "addresses", "protecting", "tasks", "compute", "driver", "fetching", "lifecycle", "market", "packets", "population",
    "quiet", "worker", "workload",
)  # fmt: skip

METHODS = {name for name in dir(random.Random) if not name.startswith("_")}
"""What a generator has; `sample` and `seed` are also names of other things here."""

CLOCKS = {"time", "datetime", "uuid", "secrets"}
CLOCK_READERS = {"experiment.py"}
"""The one module that says how long a run took."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the simulator."""
    for path in sorted(FOLDER.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def function(name: str) -> Callable[..., object]:
    """A rule of the document."""
    return SPEC.functions[name]


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_constants_are_those_of_the_code() -> None:
    modules = [importlib.import_module(f"simulations.{name}") for name in MODULES]
    found = {
        name: next(vars(module)[name] for module in modules if name in vars(module)) for name in SPEC.constants
    }  # fmt: skip
    assert found == SPEC.constants


def test_faults_are_those_of_scenarios() -> None:
    assert [row["kind"] for row in SPEC.table("faults")] == list(get_args(scenario.FaultKind))


def test_checkers_are_those_of_the_code() -> None:
    assert {row["name"] for row in SPEC.table("checkers")} == set(CHECKERS) == set(get_args(scenario.Check))


def test_levels_are_those_of_scenarios() -> None:
    hints = {item.name: item for item in __import__("msgspec").structs.fields(scenario.Simulation)}
    for key in ("wire", "replicas", "gossip"):
        values = [row["value"] for row in SPEC.table("levels of detail") if row["key"] == key]
        assert set(values) == set(get_args(hints[key].type))


def test_files_are_those_of_a_run_directory() -> None:
    named = {row["file"] for row in SPEC.table("the run directory")}
    assert {run_directory.MANIFEST, run_directory.STARTED, run_directory.SCENARIO, *run_directory.OURS} < named
    assert run_directory.__doc__ is not None
    assert all(name in run_directory.__doc__ for name in named)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.integers(0, 5), max_size=20))
def test_the_order_of_events(times: list[int]) -> None:
    queue, seen = Queue(), list[str]()
    events = [(time, f"event {place}") for place, time in enumerate(times)]
    for time, name in events:
        queue.at(time, seen.append, name)
    queue.run(5)
    assert seen == function("order")(events)


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.booleans())
def test_a_tick_is_never_early_and_never_too_soon(due: int, now: int, is_after: bool) -> None:
    at = cast("int", function("tick_at")(due, now, is_after))
    assert at >= due and at >= now and (at >= now + TICK_GAP_NS or not is_after or at == due)


@given(st.integers(0, 1 << 64), st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["peer", "network"]))))
def test_streams_of_chance(seed: int, names: list[str | int]) -> None:
    expected = random.Random(cast("int", function("stream_seed")(seed, *names)))
    assert chance.stream(seed, *names).getrandbits(64) == expected.getrandbits(64)


@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.integers(0, 99), st.integers(0, 1 << 64)), max_size=30))
def test_the_auditors_hash(events: list[tuple[int, int, int]]) -> None:
    auditor = Auditor()
    for event in events:
        auditor.note(*event)
    assert auditor.hexdigest() == function("audit")(events)


@given(st.integers(1, 20 * NS), st.integers(0, 20 * NS), st.integers(1, 200_000_000))
def test_what_crosses_a_partition(last: int, sent: int, delay: int) -> None:
    sent %= last
    topology = Topology(latency="uniform", delay=delay, jitter=0.0)
    queue = Queue()
    network = Network(place(topology, 2, [True, True], random.Random(1)), topology, random.Random(1), queue)
    network.cut([0], last, False, 0)
    queue.run(sent)
    arrives = network.arrival(0, 1, 100, sent)
    wait = cast("int", function("crosses")(0, last, sent, delay))
    assert arrives == (sent + delay + wait if wait >= 0 else -1)
    assert (wait < 0) == (last > SURVIVES)


# ── determinism, as far as it can be read ────────────────────────────────────────────────────────────────────────────
def test_only_stable_methods_of_generators_are_used() -> None:
    allowed = {row["method"] for row in SPEC.table("chance")}
    assert allowed < METHODS
    used: dict[str, set[str]] = {}
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS - {"seed"}:
                used.setdefault(node.attr, set()).add(path.name)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "seed":
                used.setdefault("seed", set()).add(path.name)
    assert not {name: used[name] for name in used if name not in allowed}
    assert allowed <= set(used), "the table names no method that nobody uses"


def test_chance_time_and_order_come_from_nowhere_else() -> None:
    found: list[str] = []
    for path, tree in trees():
        for node in ast.walk(tree):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            match node:
                case ast.Import(names=names):
                    bad = {name.name for name in names} & ({"random"} | CLOCKS)
                    found += [f"{where} imports {name}" for name in bad if path.name not in CLOCK_READERS]
                case ast.ImportFrom(module="random", names=names) if [name.name for name in names] != ["Random"]:
                    found.append(f"{where} imports more than Random")
                case ast.ImportFrom(module=str(module)) if module.split(".")[0] in CLOCKS:
                    found.append(f"{where} imports from {module}")
                case ast.Call(func=ast.Name(id="hash" | "id")):
                    found.append(f"{where} calls hash or id")
                case ast.Attribute(attr="urandom"):
                    found.append(f"{where} draws from the system")
                case ast.For(iter=ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset"))):
                    found.append(f"{where} walks a set")
    assert not found


def test_the_simulator_imports_no_driver_of_the_node() -> None:
    for path, tree in trees():
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & {"node", "trio", "libp2p", "asyncio"}, path
