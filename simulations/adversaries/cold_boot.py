"""Attackers that are there when the network starts."""

from __future__ import annotations

from simulations.adversaries.silent_router import SilentRouter


class ColdBoot(SilentRouter):
    """Joins together with everybody, dials everybody, and passes on nothing from `at` on (0 for a cold boot).

    Hopes for: meshes full of attackers before anybody has a score. What should stop it: scores that fall for what is
    not delivered (P3), pruning by score, and links that the peer dialled itself; the live node counts only invalid
    statements, so there it is IHAVE and IWANT alone that bring a statement around the attackers, a heartbeat later.
    Source: Vyzovitis et al., "GossipSub: Attack-Resilient Message Propagation", 2020, section on the cold boot attack.
    """
