"""One process of the honest matrix: units of training under the threads and instructions that it was started with.

A script of its own for the jobs' Python, which has torch and nothing of ours but the guest's package:
`python honest_worker.py ORDERS`, a JSON file. What it computes is written as canonical tensors below `out`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict


class Orders(TypedDict):
    """What one process computes."""

    example: str
    """Folder of the program."""
    out: str
    threads: int
    task: str
    """`chains`, `units` or `cheats`."""
    starts: str
    """Where the states lie from which units begin; those of `chains`."""
    seeds: int
    units: int
    kinds: list[tuple[str, str]]
    """(optimizer, numeric class)."""


def main() -> None:
    """Do what the orders say."""
    orders: Orders = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.insert(0, orders["example"])
    import torch

    torch.set_num_threads(orders["threads"])
    for optimizer, numeric in orders["kinds"]:
        print(f"{optimizer} {numeric}", file=sys.stderr, flush=True)
        {"chains": chains, "units": units, "cheats": cheats}[orders["task"]](orders, optimizer, numeric)


def chains(orders: Orders, optimizer: str, numeric: str) -> None:
    """Whole chunks: every state of every seed."""
    import shoal_work

    for seed in range(orders["seeds"]):
        work = honest(orders, optimizer, numeric, seed)
        state = work.first()
        for index in range(orders["units"]):
            write(orders["out"], f"{optimizer}.{numeric}.{seed}.{index}", state, {})
            state, _ = work.step(shoal_work.decode(shoal_work.encode(state)), index)
        write(orders["out"], f"{optimizer}.{numeric}.{seed}.{orders['units']}", state, {})


def units(orders: Orders, optimizer: str, numeric: str) -> None:
    """One unit of every seed, each seed's another one, from the state that `chains` wrote before it."""
    for seed in range(orders["seeds"]):
        index = seed % orders["units"]
        work = honest(orders, optimizer, numeric, seed)
        after, aux = work.step(opened(orders, optimizer, numeric, seed, index), index)
        write(orders["out"], f"{optimizer}.{numeric}.{seed}", after, aux)


def cheats(orders: Orders, optimizer: str, numeric: str) -> None:
    """The same units, by every cheat of the battery."""
    for seed in range(orders["seeds"]):
        index = seed % orders["units"]
        for name, cheat in battery(orders, optimizer, numeric, seed).items():
            after, aux = cheat(index)
            write(orders["out"], f"{optimizer}.{numeric}.{seed}.{name}", after, aux)


def honest(orders: Orders, optimizer: str, numeric: str, seed: int, kind: type | None = None):  # type: ignore[no-untyped-def]
    """The example's work, with another optimizer or numeric class than its job.yml says."""
    import train
    from shoal_work.plan import EPSILON, Plan

    rate = {"sgd": 0.05, "adamw": 0.003}[optimizer]
    plan = Plan.from_environment(
        {
            "OPTIMIZER": optimizer, "LEARNING_RATE": str(rate), "BATCH": "32", "STEPS": "5", "NUMERIC": numeric,
            "RECORD_BYTES": "12", "DATA_ROOT": data_root(orders), "EPSILON": str(EPSILON[numeric]),
        }
    )  # fmt: skip
    folder = Path(orders["example"])
    work = (kind or train.Adder)(plan, folder / "records.bin", folder / "initial.safetensors")
    work.seed, work.units = hashlib.sha256(b"%d" % seed).digest(), orders["units"]
    return work


def data_root(orders: Orders) -> str:
    """From the example's job.yml."""
    lines = (Path(orders["example"]) / "job.yml").read_text(encoding="utf-8").splitlines()
    return next(line.split(":")[1].strip() for line in lines if "DATA_ROOT" in line)


def battery(orders: Orders, optimizer: str, numeric: str, seed: int) -> dict[str, Callable[[int], tuple]]:  # type: ignore[type-arg]
    """Rows 2 to 10 of the list of attacks, as functions from the unit's index to (state, aux)."""
    import numpy as np
    import shoal_work
    import torch
    import train
    from shoal_work.training import PARAMETERS

    def start(index: int) -> dict[str, object]:
        return dict(opened(orders, optimizer, numeric, seed, index))

    def changed(**methods: object) -> Callable[[int], tuple]:  # type: ignore[type-arg]
        cheat = honest(orders, optimizer, numeric, seed, type("Cheat", (train.Adder,), methods))
        return lambda index: cheat.step(start(index), index)

    def planned(**numbers: float) -> Callable[[int], tuple]:  # type: ignore[type-arg]
        cheat = honest(orders, optimizer, numeric, seed)
        cheat.plan = replace(cheat.plan, **{name: getattr(cheat.plan, name) * by for name, by in numbers.items()})
        return lambda index: cheat.step(start(index), index)

    def part_of(share: float):  # type: ignore[no-untyped-def]
        return lambda self, step: train.Adder.rows(self, step)[: int(self.plan.batch * share)]

    def lazy(index: int):  # type: ignore[no-untyped-def]
        _, aux = honest(orders, optimizer, numeric, seed).step(start(index), index)
        before = start(index)
        return {**before, "step": np.asarray(before["step"]) + 5}, aux

    def joined(index: int):  # type: ignore[no-untyped-def]
        _, aux = honest(orders, optimizer, numeric, seed).step(start(index), index)
        return opened(orders, optimizer, numeric, (seed + 1) % orders["seeds"], index + 1), aux

    def frozen(*names: str):  # type: ignore[no-untyped-def]
        def move(self, values, gradients, step):  # type: ignore[no-untyped-def]
            kept = {PARAMETERS + name: values[PARAMETERS + name].copy() for name in names}
            train.Adder._move(self, values, gradients, step)
            values.update(kept)

        return move

    def swapped(self, step):  # type: ignore[no-untyped-def]
        rows = train.Adder.rows(self, step).copy()
        rows[0] = (rows[0] + 1) % self.records.count
        return rows

    def quantised(bits: int):  # type: ignore[no-untyped-def]
        def loss(self, parameters, records):  # type: ignore[no-untyped-def]
            return train.Adder.loss(self, {name: coarse(value, bits) for name, value in parameters.items()}, records)

        return loss

    def coarse(value, bits):  # type: ignore[no-untyped-def]
        size = value.detach().abs().max() / (2 ** (bits - 1) - 1) + 1e-30
        return value + ((value / size).round() * size - value).detach()

    def halved(self, parameters, records):  # type: ignore[no-untyped-def]
        return train.Adder.loss(self, {n: v.to(torch.bfloat16) for n, v in parameters.items()}, records).float()

    del shoal_work
    return {
        "02 nothing done": lazy,
        "03 31 of 32 records": changed(rows=part_of(31 / 32)),
        "03 28 of 32 records": changed(rows=part_of(28 / 32)),
        "03 16 of 32 records": changed(rows=part_of(16 / 32)),
        "05 the batches of the unit before": changed(rows=lambda self, step: train.Adder.rows(self, step + 1_000)),
        "06 learning rate x 0.99": planned(rate=0.99),
        "06 learning rate x 0.01": planned(rate=0.01),
        "07 one record of another row": changed(rows=swapped),
        "08 a state of another run": joined,
        "09 one frozen bias": changed(_move=frozen("norm.bias")),
        "09 one frozen layer": changed(_move=frozen(*(n for n in names() if n.startswith("layer1.")))),
        "10 bfloat16": changed(loss=halved),
        "10 int8 weights": changed(loss=quantised(8)),
        "10 int4 weights": changed(loss=quantised(4)),
    }


def names() -> list[str]:
    """Parameters of the example's model."""
    import adder

    return list(adder.shapes())


def opened(orders: Orders, optimizer: str, numeric: str, seed: int, index: int) -> Mapping[str, object]:
    """A state of `chains`."""
    import shoal_work

    found = shoal_work.decode((Path(orders["starts"]) / f"{optimizer}.{numeric}.{seed}.{index}.state").read_bytes())
    assert not isinstance(found, bytes)
    return found


def write(folder: str, name: str, state: object, aux: object) -> None:
    """Both as files."""
    import shoal_work

    for kind, tensors in (("state", state), ("aux", aux)):
        (Path(folder) / f"{name}.{kind}").write_bytes(shoal_work.encode(tensors))


if __name__ == "__main__":
    main()
