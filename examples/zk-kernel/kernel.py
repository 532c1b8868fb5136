"""The kernel that is proven: a two-layer classifier on 16 numbers, its weights drawn from SHAKE-256.

`python kernel.py BUILD` writes what prover and verifier need: the circuit, its keys, and the reference string.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import struct
import sys
from pathlib import Path

import ezkl
import onnx
from onnx import TensorProto, helper

INPUTS, HIDDEN, OUTPUTS = 16, 8, 4
LOGROWS = 12
"""Rows of the circuit, as a power of two: the smallest that this kernel fits."""


def weights(name: str, count: int) -> list[float]:
    """Multiples of 1/16 between -1/2 and 1/2: exact in the circuit's fixed point."""
    data = hashlib.shake_256(name.encode()).digest(count)
    return [(byte % 17 - 8) / 16 for byte in data]


def model() -> onnx.ModelProto:
    """relu(x·A + a)·B + b."""
    shapes = {"A": (INPUTS, HIDDEN), "a": (HIDDEN,), "B": (HIDDEN, OUTPUTS), "b": (OUTPUTS,)}
    parameters = []
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) == 2 else 1)
        parameters.append(helper.make_tensor(name, TensorProto.FLOAT, shape, weights(name, size)))
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["xA"]),
        helper.make_node("Add", ["xA", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["rB"]),
        helper.make_node("Add", ["rB", "b"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, OUTPUTS])
    graph = helper.make_graph(nodes, "kernel", [given], [result], parameters)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def sample(number: int) -> list[float]:
    """Input `number`: what a chunk classifies."""
    data = hashlib.shake_256(f"input {number}".encode()).digest(2 * INPUTS)
    return [value / 65536 for value in struct.unpack(f"<{INPUTS}H", data)]


async def build(folder: Path) -> None:
    """The circuit and its keys. Whoever made the reference string could forge proofs: let the renter make it."""
    path = {name: str(folder / name) for name in ("kernel.onnx", "settings.json", "circuit", "srs", "vk", "pk")}
    onnx.save(model(), path["kernel.onnx"])
    arguments = ezkl.PyRunArgs()
    arguments.input_visibility, arguments.output_visibility, arguments.param_visibility = "public", "public", "fixed"
    arguments.logrows = LOGROWS
    for step in (
        lambda: ezkl.gen_settings(path["kernel.onnx"], path["settings.json"], py_run_args=arguments),
        lambda: ezkl.compile_circuit(path["kernel.onnx"], path["circuit"], path["settings.json"]),
    ):
        await settle(step())
    await settle(ezkl.gen_srs(path["srs"], logrows(folder)))
    await settle(ezkl.setup(path["circuit"], path["vk"], path["pk"], path["srs"]))


def logrows(folder: Path) -> int:
    """What the settings came to."""
    return int(json.loads((folder / "settings.json").read_text())["run_args"]["logrows"])


async def settle(answer: object) -> object:
    """Some of ezkl's functions are coroutines in one version and plain in another."""
    return await answer if inspect.isawaitable(answer) else answer


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    asyncio.run(build(Path(sys.argv[1])))
