"""Stake is a promise to be there: after seven days of silence each further day costs. Spec: specs/32-economics.md."""

from __future__ import annotations

from protocol import penalties
from protocol.errors import Refused
from protocol.escrow_state import LedgerState
from protocol.leases_ledger import Signers, not_signed
from protocol.operations import Absence
from protocol.units import DAY


def absence(state: LedgerState, op: Absence, op_id: bytes, signers: Signers) -> None:
    """A quorum missed a peer: 1 % of its stake, once for each day, because the same words are the same operation."""
    if not state.validators.is_quorum(signers):
        power, quorum = state.validators.power(signers), state.validators.quorum
        raise not_signed(f"validators with power {quorum}, has {power}")
    if state.policy is None:
        raise Refused("this network has no policy", code="no_policy", fix="Its genesis would have to say so.")
    today = state.time // DAY
    if not today - 1 <= op.day <= today:
        raise Refused(
            f"day {op.day} is neither today, {today}, nor yesterday",
            code="bad_day",
            fix="Report a day while it is fresh.",
            numbers={"day": op.day, "today": today},
        )
    if not penalties.charge(state, op.peer, penalties.OFFLINE_PPM):
        raise Refused(f"{op.peer.hex()[:16]} has no free stake", code="no_stake", fix="Nothing is to be done.")
