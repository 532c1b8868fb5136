"""A provider that claims results which it never computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from protocol import wire
from protocol.effects import Run
from simulations.adversaries.cheat import Cheat, consecutive_valid, lease_of
from simulations.proving import Result
from simulations.simpeer import SimPeer

FORGE_NS: Final = 1_000_000
"""Making up bytes takes a millisecond."""


class ProofForger(Cheat):
    """Answers with invented bytes at once.

    Hopes for: the pay of a chunk without its computing. `patience: k` does it the clever way: honest until k results in
    a row were valid, so that audits are rare (1 / (1 + k), not less than the job's own share), then forging until
    caught.
    What should stop it: the beacon decides about an audit after the seal; a newcomer is always audited; a wrong result
    costs 10 % of the price, the place in that job, and brings full audits back. 10 % is not enough for the patient one
    where audits are rare: between two catches it keeps what it forged.
    Source: verification attacks 1, 4 and 27; Sarmenta, "Sabotage-Tolerance Mechanisms for Volunteer Computing Systems",
    2001 (spot-checking).
    """

    role = "provider"
    options_known: ClassVar[Mapping[str, float]] = {"patience": 0}

    def result(self, peer: SimPeer, run: Run, honest: Result, now: int) -> Result:
        lease = lease_of(peer, run)
        if lease is None or consecutive_valid(peer) < self.option("patience"):
            return honest
        self.took(lease, "forged", honest.time)
        return Result(wire.encode(("forged", peer.name, run.task)), FORGE_NS)
