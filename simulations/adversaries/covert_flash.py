"""Attackers that behave until all of them turn at once."""

from __future__ import annotations

from simulations.adversaries.silent_router import SilentRouter


class CovertFlash(SilentRouter):
    """Forwards like anybody and gathers a good score; at `at` all of them stop passing on, at the same moment.

    Hopes for: a place in most meshes and a score that lasts for a while. What should stop it: a score that decays
    faster than the damage spreads, and statements fetched by IWANT until the mesh is built anew.
    Source: Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation", 2020, section on the covert flash
    attack.
    """
