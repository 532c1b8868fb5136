"""How much a provider may have in flight, and how often its results must be audited. Spec: specs/32-economics.md.

Integers only. R = price, S = stake, p = audit rate, r = collusion; the gain of a cheat is at most the price, g = R.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import Refused
from protocol.escrow_state import LedgerState
from protocol.operations import Assign
from protocol.policy import Policy
from protocol.units import PPM

MARGIN: Final = 1_500_000
"""Parts per million by which both bounds exceed what would only just deter: 1.5."""


def floor_ppm(price: int, stake: int, collusion_ppm: int) -> int:
    """Share of results to audit at least so that cheating on one of this price does not pay, parts per million:
    1.5 g / ((1 − r)(R + S)), rounded up.

    >>> floor_ppm(10, 115, 200_000), floor_ppm(10, 0, 0), floor_ppm(0, 0, 0)
    (150000, 1000000, 0)
    """
    if price <= 0:
        return 0
    below = (PPM - collusion_ppm) * (price + max(0, stake))
    return min(PPM, -(-MARGIN * price * PPM // below)) if below > 0 else PPM


def kappa_ppm(policy: Policy) -> int:
    """Value in flight per unit of stake and held pay, parts per million: p (1 − r) / 1.5.

    >>> kappa_ppm(Policy())
    53333
    """
    return policy.audit_rate * (PPM - policy.collusion) // MARGIN


def is_deterred(policy: Policy, price: int, stake: int) -> bool:
    """Whether cheating on one job of this price does not pay: S > g / (p (1 − r)) − R with g = R.

    >>> is_deterred(Policy(), 10, 115), is_deterred(Policy(), 10, 116)
    (False, True)
    """
    return price <= 0 or (stake + price) * policy.audit_rate * (PPM - policy.collusion) > price * PPM * PPM


def held_pay(state: LedgerState, provider: bytes) -> int:
    """Prices that judges accepted and that are not paid yet, smallest units."""
    return state.held_pay.get(provider, 0)


def in_flight(state: LedgerState, provider: bytes) -> int:
    """Prices of its running leases and of its held results, smallest units."""
    return state.flight.get(provider, 0) + held_pay(state, provider)


def limit(state: LedgerState, policy: Policy, provider: bytes) -> int:
    """What a provider may have in flight, smallest units."""
    return (state.accounts.balance(("S", provider)) + held_pay(state, provider)) * kappa_ppm(policy) // PPM


def check(state: LedgerState, op: Assign) -> None:
    """Refuse a lease to whoever is banned, or would have more at stake for others than for itself."""
    policy = state.policy
    if policy is None:
        return
    standing = state.standings.get(op.provider)
    if standing is not None and standing.fraud:
        raise Refused(
            f"{op.provider.hex()[:16]} has handed in proven fraud",
            code="banned",
            fix="Choose another provider.",
        )
    if not policy.has_exposure_cap or not op.price:
        return
    stake = state.accounts.balance(("S", op.provider))
    most, now = limit(state, policy, op.provider), in_flight(state, op.provider)
    if now + op.price > most or not is_deterred(policy, op.price, stake):
        raise Refused(
            f"{now} in flight and {op.price} more exceed what a stake of {stake} answers for, {most}",
            code="over_exposed",
            fix="Bond more stake, wait until held pay is paid, or take a cheaper chunk.",
            numbers={"in_flight": now, "price": op.price, "limit": most, "stake": stake},
        )
