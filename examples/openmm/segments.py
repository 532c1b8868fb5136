"""Molecular dynamics in segments: unit i takes the atoms LENGTH steps on. Energy is kept, and every result shows it."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import shoal_work
from argon import beginning, context
from shoal_work.scientific import Segments


class Argon(Segments):
    """The state is positions and velocities in double precision: an auditor's context starts from them."""

    def __init__(self, length, platform, threads):
        self.length, self.platform, self.threads = length, platform, threads
        self.context = None

    def begin(self):
        return beginning(self.seed)

    def advance(self, state, index):
        if self.context is None:
            self.context = context(self.platform, self.threads)
        self.context.reinitialize()
        self.context.setPositions(state["positions"])
        self.context.setVelocities(state["velocities"])
        self.context.getIntegrator().step(self.length)
        found = self.context.getState(positions=True, velocities=True, energy=True)
        potential, kinetic = found.getPotentialEnergy()._value, found.getKineticEnergy()._value
        after = {
            "positions": np.asarray(found.getPositions(asNumpy=True)._value, np.float64),
            "velocities": np.asarray(found.getVelocities(asNumpy=True)._value, np.float64),
        }
        return after, [potential + kinetic, kinetic]


def bitwise_run(threads, platform="Reference"):
    """SHA-256 of three short segments."""
    work = Argon(20, platform, threads)
    state = work.first()
    for index in range(3):
        state, _ = work.step(state, index)
    return hashlib.sha256(shoal_work.encode(state)).hexdigest()


if __name__ == "__main__":
    length, threads = int(os.environ.get("LENGTH") or 100), int(os.environ.get("THREADS") or 1)
    shoal_work.run(Argon(length, os.environ.get("PLATFORM") or "Reference", threads))
