"""One process of the honest matrix: units of training under the threads and instructions that it was started with.

A script for the jobs' Python, which has torch and nothing of ours but the guest's package, called `shoal_work`:
`python honest_worker.py ORDERS`, a JSON file. What it computes is written as canonical tensors.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from benchmarks import honest_cheats
from benchmarks.honest_cheats import Tensors, Unit

if TYPE_CHECKING:
    from node.guest.work.training import TrainingWork


class Orders(TypedDict):
    """What one process computes."""

    example: str
    """Folder of the program."""
    out: str
    threads: int
    task: str
    """`chains`, `units` or `cheats`."""
    starts: str
    """Where `chains` wrote the states from which units begin."""
    seeds: int
    units: int
    kinds: list[str]


KINDS: Final[Mapping[str, Mapping[str, str]]] = {
    "sgd fp32": {"OPTIMIZER": "sgd", "LEARNING_RATE": "0.05", "NUMERIC": "D3"},
    "adamw fp32": {"OPTIMIZER": "adamw", "LEARNING_RATE": "0.003", "NUMERIC": "D3"},
    "adamw fp32, ε 1e-8": {"OPTIMIZER": "adamw", "LEARNING_RATE": "0.003", "NUMERIC": "D3", "EPSILON": "1e-8"},
    "sgd grid": {"OPTIMIZER": "sgd", "LEARNING_RATE": "0.05", "NUMERIC": "D1"},
    "adamw grid": {"OPTIMIZER": "adamw", "LEARNING_RATE": "0.003", "NUMERIC": "D1"},
}
"""What is measured, as it would stand in a job's environment."""

STEPS: Final = 5
"""Optimizer steps of a unit."""


def main() -> None:
    """Do what the orders say."""
    orders: Orders = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.insert(0, orders["example"])
    importlib.import_module("torch").set_num_threads(orders["threads"])
    for kind in orders["kinds"]:
        for seed in range(orders["seeds"]):
            TASKS[orders["task"]](orders, kind, seed)


def chains(orders: Orders, kind: str, seed: int) -> None:
    """A whole chunk, every state of it."""
    guest = importlib.import_module("shoal_work")
    work = honest(orders, kind, seed)
    data = guest.encode(work.first())
    for index in range(orders["units"]):
        (Path(orders["out"]) / f"{kind}.{seed}.{index}.state").write_bytes(data)
        after, _ = work.step(guest.decode(data), index)
        data = guest.encode(after)
    (Path(orders["out"]) / f"{kind}.{seed}.{orders['units']}.state").write_bytes(data)


def units(orders: Orders, kind: str, seed: int) -> None:
    """One unit, each seed's another one, from the state that `chains` wrote before it."""
    index = seed % orders["units"]
    write(orders, f"{kind}.{seed}", honest(orders, kind, seed).step(opened(orders, kind, seed, index), index))  # type: ignore[arg-type]


def cheats(orders: Orders, kind: str, seed: int) -> None:
    """The same unit by every cheat of the battery."""
    index, other = seed % orders["units"], (seed + 1) % orders["seeds"]

    def make(variant: type[TrainingWork] | None = None) -> TrainingWork:
        return honest(orders, kind, seed, variant)

    for name, cheat in honest_cheats.battery(make, lambda unit: opened(orders, kind, other, unit)).items():
        write(orders, f"{kind}.{seed}.{name}", cheat(opened(orders, kind, seed, index), index))


def honest(orders: Orders, kind: str, seed: int, variant: type[TrainingWork] | None = None) -> TrainingWork:
    """The example's work with the plan of `kind` instead of its job.yml's."""
    plan = importlib.import_module("shoal_work.plan").Plan
    folder = Path(orders["example"])
    lines = (folder / "job.yml").read_text(encoding="utf-8").splitlines()
    root = next(line.split(":")[1].strip() for line in lines if "DATA_ROOT" in line)
    fixed = {"BATCH": "32", "STEPS": str(STEPS), "RECORD_BYTES": "12", "DATA_ROOT": root, **KINDS[kind]}
    program = variant or importlib.import_module("train").Adder
    work: TrainingWork = program(plan.from_environment(fixed), folder / "records.bin", folder / "initial.safetensors")
    work.seed, work.units = hashlib.sha256(b"%d" % seed).digest(), orders["units"]
    return work


def opened(orders: Orders, kind: str, seed: int, index: int) -> Tensors:
    """A state of `chains`."""
    data = (Path(orders["starts"]) / f"{kind}.{seed}.{index}.state").read_bytes()
    found: Tensors = importlib.import_module("shoal_work").decode(data)
    return found


def write(orders: Orders, name: str, unit: Unit) -> None:
    """State and aux as files."""
    encode = importlib.import_module("shoal_work").encode
    for end, tensors in zip(("state", "aux"), unit, strict=True):
        (Path(orders["out"]) / f"{name}.{end}").write_bytes(encode(tensors))


TASKS: Final[Mapping[str, Callable[[Orders, str, int], None]]] = {"chains": chains, "units": units, "cheats": cheats}

if __name__ == "__main__":
    main()
