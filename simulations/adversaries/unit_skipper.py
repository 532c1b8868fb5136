"""Providers that leave out a part of the units of their chunks, or compute them with cheaper arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from protocol.effects import Run
from protocol.units import PPM
from simulations import chance
from simulations.adversaries.cheat import Cheat, lease_of
from simulations.simpeer import SimPeer
from simulations.units import Conduct


class UnitSkipper(Cheat):
    """Skips `share` of the units of each chunk, drawn anew; `off`: adds so much error (a share of the update) to all.

    Hopes for: the pay of a chunk for a part of its computing, as long as the audited units are others.
    What should stop it: units are drawn after the claim, k of n with a chance of 1 - (1 - share)^k to meet a bad one,
    and one that is proven costs the whole stake, so that a small cheat is no better than a large one. Error beyond the
    tolerance is found by two auditors; such results are not paid, and the next ones are all audited.
    Source: verification attacks 4 and 10; note on verification, 3.1.
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"share": 0.1, "off": 0}

    def units(self, peer: SimPeer, run: Run, honest: Conduct, now: int) -> Conduct:
        lease = lease_of(peer, run)
        if lease is None:
            return honest
        count, share = run.spec.units, self.option("share")
        dice = chance.stream(self.world.seed, "skip", peer.name, run.task)
        skipped = frozenset(index for index in range(count) if dice.random() < share)
        off = round(self.option("off") * PPM * PPM)
        if skipped:
            self.took(lease, "skipped", run.spec.estimate * 1_000 * len(skipped) // count)
        elif off:
            self.took(lease, "cheapened", 0)
        return Conduct(
            skips=lambda index: index in skipped or honest.skips(index),
            err=lambda index: honest.err(index) + off,
        )
