"""256 atoms of argon, without a thermostat: a system whose energy must stay what it was. OpenMM keeps the forces.

Units of OpenMM: nanometres, picoseconds, daltons, kilojoules per mole.
"""

from __future__ import annotations

import numpy as np
import openmm
from shoal_work import Dice

CELLS = 4
SPACING = 0.58
SIGMA, EPSILON, MASS = 0.3405, 0.996, 39.948
CUTOFF, SWITCH = 0.9, 0.75
STEP = 0.002
WARMTH = 0.22  # Standard deviation of a velocity at the start, nm/ps; half of it goes into melting.
BOX = CELLS * SPACING


def system(step_share=1.0):
    """The forces, between nearest images."""
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors((BOX, 0, 0), (0, BOX, 0), (0, 0, BOX))
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(CUTOFF)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(SWITCH * step_share)
    force.setUseDispersionCorrection(False)
    for _ in range(4 * CELLS**3):
        made.addParticle(MASS)
        force.addParticle(0.0, SIGMA, EPSILON)
    made.addForce(force)
    return made


def beginning(seed):
    """Positions on a face-centred lattice, velocities by lot: sums of twelve uniform numbers, equal everywhere."""
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = np.stack(np.meshgrid(*[np.arange(CELLS)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    positions = ((cells + corners) * SPACING).reshape(-1, 3)
    lots = Dice(seed, "velocities").uniform(12 * positions.size).reshape(12, *positions.shape)
    velocities = (sum(lots) - 6.0) * WARMTH
    drift = velocities[0] * 0.0
    for velocity in velocities:
        drift = drift + velocity
    return {"positions": positions, "velocities": velocities - drift / len(velocities)}


def context(platform, threads, step=STEP):
    """A simulation on one platform. Reference computes in double precision and on one thread."""
    properties = {"Threads": str(threads)} if platform == "CPU" else {}
    integrator = openmm.VerletIntegrator(step)
    return openmm.Context(system(), integrator, openmm.Platform.getPlatformByName(platform), properties)
