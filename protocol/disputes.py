"""Appeals and rulings: two panels, then the game, each with a bond and a deadline. Spec: specs/32-economics.md.

An appeal freezes what is held. A ruling either takes the bond or replaces the finding, and a new window opens for whom
it goes against. Without a ruling in time, and where the judges find nothing, the last finding stands and the bond goes
back: judges who are late, or not there, cost nobody anything.
"""

from __future__ import annotations

from typing import Final

from protocol import holding, inheritance, penalties, tallies
from protocol.accounts import TREASURY, AccountKey, Pend
from protocol.errors import Refused
from protocol.escrow_state import RULE, Escrow, LedgerState
from protocol.held import BOND, Held, name
from protocol.leases_ledger import Signers, not_signed
from protocol.operations import Appeal, Ruling
from protocol.policy import Policy
from protocol.promises import Part, promise, resolve
from protocol.units import PPM

PANELS: Final = (3, 7, 7)
"""Executions that a round may take: two panels; in the game both sides and the leaf's referees."""

BOND_PPM: Final = 1_500_000
"""Share of a round's cost that an appellant stakes: 1.5, so that a lost appeal pays for what it caused."""

NOTHING_FOUND: Final = frozenset({"no_majority", "no_panel", "inputs_missing", "bad_spec"})
"""Codes of rulings in which the court found nothing, for reasons that no appellant can know beforehand: the finding
stands and the bond comes back. What cannot be compared or replayed by its very kind is the appellant's to know."""

NO_RIVAL: Final = bytes(32)


def bond_min(policy: Policy, price: int, number: int) -> int:
    """What an appeal to this round stakes at least, smallest units.

    >>> bond_min(Policy(bond_min=1), 1_000, 1), bond_min(Policy(bond_min=1), 1_000, 2)
    (4500, 10500)
    """
    return max(policy.bond_min, price * PANELS[number - 1] * BOND_PPM // PPM)


def may_appeal(state: LedgerState, escrow: Escrow, held: Held, appellant: bytes) -> bool:
    """Whether the finding goes against somebody, who alone may appeal: whoever stands accused against a fault, an
    auditor against having been refuted; against an accepted result the renter, the steward, and whoever has stake."""
    if appellant in held.faulted:
        return True
    if held.finding != "accept":
        return appellant == held.provider
    if appellant in (held.provider, held.claimant):
        return False
    return appellant in (escrow.owner, escrow.steward) or state.accounts.balance(("S", appellant)) > 0


def appeal(state: LedgerState, op: Appeal, op_id: bytes, signers: Signers) -> None:
    """Freeze what is held until a ruling, against a bond."""
    policy = state.policy
    held = state.open_held(op.escrow, op.chunk, op.epoch)
    if op.appellant not in signers:
        raise not_signed("the appellant")
    if policy is None or held.is_appealed:
        raise Refused("an appeal is open already", code="already_appealed", fix="Wait for its ruling.")
    if state.time > held.until:
        raise Refused(
            f"the window ended at {held.until}",
            code="window_closed",
            fix="Appeal earlier next time.",
            numbers={"until": held.until, "now": state.time},
        )
    if (op.round or held.round + 1) != held.round + 1:
        raise Refused(
            f"the next round is {held.round + 1}, not {op.round}",
            code="wrong_round",
            fix="Read the newest ruling.",
            numbers={"next": held.round + 1},
        )
    if held.round >= held.last_round:
        raise Refused(f"round {held.round} was the last", code="last_round", fix="The ruling stands.")
    escrow = state.escrows[held.escrow]
    if not may_appeal(state, escrow, held, op.appellant):
        raise Refused(
            f"a finding of {held.finding} does not go against {op.appellant.hex()[:16]}",
            code="not_a_party",
            fix="Only who loses by a finding may appeal.",
        )
    _check_rival(held, op)
    account = _stake_bond(state, policy, held, op)
    note = penalties.note_of(held, f"appeal, round {held.round + 1}")
    promise(state, escrow, note, Pend(op_id + BOND, account, TREASURY, op.bond), "bond")
    held.appeal, held.appellant, held.bond, held.rival = op_id, op.appellant, op.bond, op.rival
    held.speaker = op.speaker or b""
    held.rule_by = state.time + policy.rule_time
    state.schedule(held.rule_by + 1, RULE, name(held), held.round)
    holding.mark(state, held)


def ruling(state: LedgerState, op: Ruling, op_id: bytes, signers: Signers) -> None:
    """A quorum says what the panel or the game found."""
    if not state.validators.is_quorum(signers):
        power, quorum = state.validators.power(signers), state.validators.quorum
        raise not_signed(f"validators with power {quorum}, has {power}")
    policy = state.policy
    held = state.open_held(op.escrow, op.chunk, op.epoch)
    if policy is None or not held.is_appealed or op.round != held.round + 1:
        raise Refused(
            f"round {op.round} was not asked for, {held.round} are over",
            code="no_appeal",
            fix="Rule on open appeals only.",
            numbers={"round": op.round, "over": held.round},
        )
    _check_ruling(held, op)
    escrow = state.escrows[held.escrow]
    if op.outcome == "upheld" and op.code in NOTHING_FOUND:
        _return_bond(state, escrow, held, "nothing found")
    elif op.outcome == "upheld":
        _lose_bond(state, escrow, held)
    else:
        _overturn(state, escrow, held, op)
    held.round, held.code = op.round, op.code
    held.heard = tuple(dict.fromkeys((*held.heard, *op.panel)))
    held.appeal = held.appellant = b""
    held.bond = held.rule_by = 0
    if held.round >= held.last_round:
        held.until = state.time - 1
        holding.ripen(state, name(held))
    else:
        holding.open_window(state, policy, held)


def lapse(state: LedgerState, key: bytes, number: int) -> None:
    """Nobody ruled in time: the finding stands, and the bond goes back."""
    held = state.held.get(key)
    if held is None or held.end or not held.is_appealed or held.round != number or state.time <= held.rule_by:
        return
    _return_bond(state, state.escrows[held.escrow], held, "not ruled in time")
    held.appeal = held.appellant = b""
    held.bond = held.rule_by = 0
    held.until = min(held.until, state.time - 1)
    holding.ripen(state, key)


def _stake_bond(state: LedgerState, policy: Policy, held: Held, op: Appeal) -> AccountKey:
    """The account that covers the bond: stake if it is enough, else free money."""
    least = bond_min(policy, held.price, held.round + 1)
    if op.bond < least:
        raise Refused(
            f"a bond of {op.bond}, round {held.round + 1} asks for {least}",
            code="bond_too_small",
            fix="Stake what the round would cost, and half as much again.",
            numbers={"bond": op.bond, "least": least},
        )
    cls = "S" if state.accounts.available(("S", op.appellant)) >= op.bond else "U"
    return (cls, op.appellant)


def _check_rival(held: Held, op: Appeal) -> None:
    """The game needs two histories: the claim's own, and another."""
    if held.round + 1 < 3:
        return
    is_own = op.rival == held.trace
    if op.rival == NO_RIVAL or is_own != (op.appellant == held.provider):
        raise Refused(
            "the third round is played between the claim's trace and another",
            code="no_rival",
            fix="Name the root of the trace that you stand for.",
        )


def _check_ruling(held: Held, op: Ruling) -> None:
    if (op.outcome == "upheld") != (op.finding == held.finding):
        raise Refused(
            f"{op.outcome} and {op.finding} do not go together after {held.finding}",
            code="bad_finding",
            fix="Uphold the finding, or overturn it with another.",
        )
    if len(set(op.panel)) != len(op.panel) or {held.provider, held.claimant, held.appellant} & set(op.panel):
        raise Refused(
            "a panel of distinct peers, neither provider nor appellant",
            code="bad_panel",
            fix="Draw the panel again.",
        )


def _return_bond(state: LedgerState, escrow: Escrow, held: Held, why: str) -> None:
    resolve(state, escrow, penalties.note_of(held, why), [Part(held.appeal + BOND, 0, "", "return")])


def _lose_bond(state: LedgerState, escrow: Escrow, held: Held) -> None:
    """Half of it at least is burnt; the rest is the treasury's, not the panel's, who would else live on upholding."""
    note = penalties.note_of(held, "appeal lost")
    resolve(state, escrow, note, [Part(held.appeal + BOND, held.bond, "forfeit", "")])
    penalties.burn(state, escrow, note, held.bond)


def _overturn(state: LedgerState, escrow: Escrow, held: Held, op: Ruling) -> None:
    """The finding before never happened; the new one is held in its place."""
    _return_bond(state, escrow, held, "appeal won")
    penalties.void(state, escrow, held)
    for auditor in held.faulted:
        state.standing(auditor).faulted -= 1
    held.faulted = ()
    if op.finding == "accept":
        held.winner = b""
    elif held.finding == "accept":
        held.winner = held.appellant
    held.round = op.round
    tallies.correct(state, held, op.finding)
    inheritance.correct(state, escrow.chunks[held.chunk], held)
    holding.restate(state, held, op.code)
    penalties.pend(state, escrow, held)
