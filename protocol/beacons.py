"""Beacons on the ledger: sealed by a quorum, then opened, and whoever does not open pays. Spec: specs/32-economics.md.

A beacon covers the claims ordered before its first part. What is opened last could be known to who opens it: keeping
it shut changes the value once, for a percent of the stake, and for twice as much every further time.
"""

from __future__ import annotations

from typing import Final

from protocol import penalties
from protocol.beacon import Beacon, seal_part, value_of
from protocol.errors import Refused
from protocol.escrow_state import BEACON, LedgerState
from protocol.leases_ledger import Signers, not_signed
from protocol.operations import BeaconCommit, BeaconReveal
from protocol.policy import Policy

KEPT: Final = 256
"""Finished beacons that the ledger remembers."""

DOUBLINGS: Final = 5
"""How often the price of silence doubles, for as long as the ledger remembers: 1, 2, 4 … 32 % of the stake. A machine
that goes down between sealing and opening pays the first; who chooses beacons has lost half its stake by the sixth."""


def wanted(state: LedgerState) -> int | None:
    """The number of the beacon that validators should seal or open parts of now; None while no claim waits."""
    newest = _newest(state)
    if newest is not None and newest.state == "open":
        return newest.number
    if not any(_waits(state, *place) for place in state.uncovered):
        return None
    return newest.number + 1 if newest is not None else 1


def commit_part(state: LedgerState, op: BeaconCommit, op_id: bytes, signers: Signers) -> None:
    """A validator seals its part; the first part says which claims are covered."""
    _require_validator(state, op.validator, signers)
    if op.number != wanted(state):
        raise Refused(
            f"beacon {op.number} is not wanted now", code="beacon_not_wanted", fix="Ask the ledger which one is."
        )
    beacon = state.beacons.get(op.number) or _open(state, state.policy or Policy(), op.number)
    if beacon.secrets or op.validator in beacon.sealed:
        raise Refused(
            f"beacon {op.number} takes no part of {op.validator.hex()[:16]}",
            code="beacon_sealed",
            fix="Seal one part, before the first is opened.",
        )
    beacon.sealed[op.validator] = op.sealed
    state.touched.add(("beacon", b"", op.number))


def reveal_part(state: LedgerState, op: BeaconReveal, op_id: bytes, signers: Signers) -> None:
    """A validator opens its part. None counts before a quorum has sealed, in a block before."""
    _require_validator(state, op.validator, signers)
    beacon = state.beacons.get(op.number)
    if beacon is None or beacon.state != "open" or op.validator in beacon.secrets:
        raise Refused(f"beacon {op.number} is not open for it", code="beacon_not_wanted", fix="Nothing is to be done.")
    if beacon.sealed.get(op.validator) != seal_part(op.validator, op.number, op.secret):
        raise Refused("not what was sealed", code="seal_mismatch", fix="Open the part that was sealed.")
    if not beacon.opened_in or not state.validators.is_quorum(beacon.sealed):
        raise Refused(
            f"{state.validators.power(beacon.sealed)} of {state.validators.quorum} have sealed",
            code="too_early",
            fix="Open when a quorum has sealed.",
        )
    beacon.secrets[op.validator] = op.secret
    state.touched.add(("beacon", b"", op.number))
    if len(beacon.secrets) == len(beacon.sealed):
        _finish(state, beacon)


def expire(state: LedgerState, number: int) -> None:
    """The time of a beacon is over: it is made of what was opened, if that is a quorum, and the rest pay for silence.
    Without a quorum that sealed, nobody could open, and nobody pays."""
    beacon = state.beacons.get(number)
    if beacon is None or beacon.state != "open":
        return
    if state.validators.is_quorum(beacon.sealed):
        for validator in sorted(beacon.sealed.keys() - beacon.secrets.keys()):
            penalties.charge(state, validator, penalties.OFFLINE_PPM << min(DOUBLINGS, _silences(state, validator)))
    if state.validators.is_quorum(beacon.secrets):
        _finish(state, beacon)
    else:
        beacon.state = "failed"
        state.uncovered = [*beacon.covers, *state.uncovered]
        state.touched.add(("beacon", b"", number))


def _silences(state: LedgerState, validator: bytes) -> int:
    """Earlier beacons of which it kept its part shut although others opened theirs."""
    over = (beacon for beacon in state.beacons.values() if beacon.state != "open" and beacon.secrets)
    return sum(validator in beacon.sealed and validator not in beacon.secrets for beacon in over)


def _open(state: LedgerState, policy: Policy, number: int) -> Beacon:
    waiting = [place for place in state.uncovered if _waits(state, *place)]
    beacon = state.beacons[number] = Beacon(number, state.time, waiting)
    state.uncovered = []
    state.opened.append(beacon)
    state.schedule(state.time + policy.beacon_time + 1, BEACON, b"", number)
    state.beacons.pop(number - KEPT, None)
    return beacon


def _finish(state: LedgerState, beacon: Beacon) -> None:
    """Every covered claim that still waits gets the value."""
    beacon.state, beacon.value = "done", value_of(beacon.number, beacon.opened_in, beacon.secrets)
    for escrow, chunk, epoch in beacon.covers:
        if _waits(state, escrow, chunk, epoch):
            state.escrows[escrow].chunks[chunk].beacon = beacon.value
            state.touched.add(("chunk", escrow, chunk))
    state.touched.add(("beacon", b"", beacon.number))


def _waits(state: LedgerState, escrow: bytes, chunk: int, epoch: int) -> bool:
    """Whether a claim still has to be judged."""
    found = state.escrows.get(escrow)
    return found is not None and (lease := found.chunks[chunk]).epoch == epoch and lease.state == "claimed"


def _newest(state: LedgerState) -> Beacon | None:
    return next(reversed(state.beacons.values()), None)


def _require_validator(state: LedgerState, validator: bytes, signers: Signers) -> None:
    if validator not in signers or validator not in state.validators:
        raise not_signed("the validator whose part it is")
