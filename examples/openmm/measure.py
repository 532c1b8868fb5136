"""How far honest machines are apart here, and cheats from them: `python measure.py OUT SEGMENTS CHEATED`.

Writes OUT/<segment>/<configuration>.state: the start, the same segment on every platform and number of threads, and
(for the first CHEATED segments) what cheats would have claimed. A tolerance is calibrated from these.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openmm
import shoal_work
from argon import EPSILON, SIGMA, STEP, context, system
from segments import Argon

LENGTH = 100
MELTING = 1000
ONE = {"Threads": "1"}


def main(out, count, cheated):
    """`count` segments of the double-precision trajectory, each from its own start."""
    truth = Argon(LENGTH, "Reference", 1)
    machines = {f"cpu-{threads}": Argon(LENGTH, "CPU", threads) for threads in (1, 2, 4)}
    cheats = cheating()
    state, _ = Argon(MELTING, "CPU", 1).step(truth.first(), 0)
    del state["history"]
    for index in range(count):
        start = dict(state)
        state, _ = truth.step(start, index)
        folder = out / str(index)
        folder.mkdir(parents=True)
        found = {"start": start, "reference": state}
        found |= {name: machine.step(start, index)[0] for name, machine in machines.items()}
        if index < cheated:
            found |= {f"cheat {name}": work.step(start, index)[0] for name, work in cheats.items()}
            found |= edited(start, state)
        for name, result in found.items():
            (folder / f"{name}.state").write_bytes(shoal_work.encode(result))


def cheating():
    """Simulations that save work, or compute something else."""
    cpu = openmm.Platform.getPlatformByName("CPU")
    shallow = system()
    force = shallow.getForce(0)
    for number in range(force.getNumParticles()):
        force.setParticleParameters(number, 0.0, SIGMA, EPSILON * 1.001)
    made = {name: Argon(LENGTH, "CPU", 1) for name in ("longer step", "shorter reach", "other substance")}
    made["longer step"].context = context("CPU", 1, STEP * 1.01)
    made["shorter reach"].context = openmm.Context(system(0.98), openmm.VerletIntegrator(STEP), cpu, ONE)
    made["other substance"].context = openmm.Context(shallow, openmm.VerletIntegrator(STEP), cpu, ONE)
    made["99 of 100 steps"] = Argon(LENGTH - 1, "CPU", 1)
    made["half the steps"] = Argon(LENGTH // 2, "CPU", 1)
    made["half the steps"].context = context("CPU", 1, STEP * 2)
    return made


def edited(start, state):
    """Results changed afterwards."""
    moved = state["positions"].copy()
    moved[17] += 0.001
    return {
        "cheat one atom": {**state, "positions": moved},
        "cheat nothing done": {**state, "positions": start["positions"], "velocities": start["velocities"]},
        "cheat half precision": {**state, "velocities": state["velocities"].astype(np.float16).astype(np.float64)},
        "grey single precision": {**state, "velocities": state["velocities"].astype(np.float32).astype(np.float64)},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
