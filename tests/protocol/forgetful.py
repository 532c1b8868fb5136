"""Two ledgers with one history: one that forgets closed escrows and operations when it may, and one that never does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import pytest

from protocol import closing, remembered
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.operations import EscrowClose, Operation, SignedOp, signed_op
from protocol.units import DAY, Digest
from tests.protocol.ledger_world import (
    CHAIN,
    PROVIDERS,
    RENTER,
    STANDBY,
    STEWARD,
    VALIDATOR,
    appeal,
    assign,
    claim,
    extend,
    fence,
    handover,
    ruling,
    settle,
    surrender,
    verdict,
)

History = Sequence[tuple[int, SignedOp | None]]
"""(ledger time, operation, or None where time passed alone); a time below 0 is no time, and passed over."""

TOTALS: Final = ("job", "owner", "steward", "cap", "paid", "commission", "evidence", "slashed", "refunded")


def late(escrow: bytes) -> Iterable[tuple[Operation, tuple[Identity, ...]]]:
    """Everything that can be asked of an escrow, validly signed."""
    provider = PROVIDERS[0]
    return (
        (assign(escrow), (STEWARD, provider)),
        (claim(escrow), (provider,)),
        (surrender(escrow), (provider,)),
        (handover(escrow), (STEWARD, provider)),
        (fence(escrow), (STEWARD, STANDBY)),
        (settle(escrow, 1), (STEWARD, provider)),
        (verdict(escrow), (VALIDATOR,)),
        (appeal(escrow, provider), (provider,)),
        (ruling(escrow, "accept"), (VALIDATOR,)),
        (EscrowClose(escrow), (STEWARD,)),
    )


def play(genesis: Genesis, history: History, forgets: bool) -> tuple[Ledger, list[bytes]]:
    """A ledger with this history, one block for each entry, and the root after each; at the end everything is due."""
    ledger = Ledger(genesis)
    roots: list[bytes] = []
    end = max((time for time, _ in history), default=genesis.time) + 800 * DAY
    for time, signed in (*history, (end, None), (end + 1, None)):
        if time < 0:
            continue
        if signed is None:
            ledger.advance(time)
        else:
            ledger.apply(signed, time, verified=True)
        if forgets:
            closing.forget_oldest(ledger._state)
        roots.append(ledger.state_root())
        ledger.commit(len(roots).to_bytes(32, "big"))
        ledger.check()
    return ledger, roots


def compare(genesis: Genesis, history: History) -> int:
    """Assert that forgetting changes no answer; how many escrows were forgotten."""
    whole, roots = play(genesis, history, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "KEPT_MIN", 0)
        patch.setattr(closing, "KEPT_TIME", 0)
        patch.setattr(remembered, "REMEMBERED_MIN", 0)
        patch.setattr(remembered, "REMEMBERED_TIME", 2 * DAY)
        short, others = play(genesis, history, True)
    assert roots == others
    gone = short.bygone
    assert gone.keys() == {key for key, one in whole.escrows.items() if one.is_closed and key not in short.escrows}
    assert {key: one for key, one in whole.escrows.items() if key not in gone} == short.escrows
    for key, past in gone.items():
        escrow = whole.escrows[key]
        assert [getattr(past, name) for name in TOTALS] == [getattr(escrow, name) for name in TOTALS]
        assert past.cap == past.paid + past.commission + past.evidence + past.refunded
        assert [(lease.chunk, item) for lease in escrow.chunks.values() for item in lease.carried] == list(past.shares)
    assert {key: one for key, one in whole.held.items() if one.escrow not in gone} == short.held
    assert whole.standings == short.standings
    left = whole._state.accounts
    assert set(short._state.accounts) == {key for key in left if key[0] != "E" or key[1] not in gone}
    assert all(left[key].encode() == short._state.accounts[key].encode() for key in short._state.accounts)
    _compare_outcomes(whole, short, history)
    _say_late(whole, short, sorted(gone))
    return len(gone)


def _compare_outcomes(whole: Ledger, short: Ledger, history: History) -> None:
    """What one of them has forgotten is what can do nothing any more, and does nothing when it comes again."""
    operations = {signed.op_id: signed for time, signed in history if time >= 0 and signed is not None}
    assert whole.outcomes.keys() <= operations.keys()
    assert short.outcomes.items() <= whole.outcomes.items()
    for op_id, (_, first) in whole.outcomes.items():
        signed = operations[Digest(op_id)]
        escrow = getattr(msgspec.msgpack.decode(signed.body, type=Operation), "escrow", None)
        again = [ledger.apply(signed, ledger.time, verified=True) for ledger in (whole, short)]
        assert again[0] == first
        if op_id in short.outcomes:
            assert escrow in short.escrows and again[1] == first
        else:
            assert again[1].status == "refused"
    assert whole.state_root() == short.state_root()


def _say_late(whole: Ledger, short: Ledger, gone: Sequence[bytes]) -> None:
    """Late operations get the same refusals, and the same bytes that opened an escrow open none again. What was applied
    in its time is refused, too."""
    for escrow in gone:
        sequence = whole.next_sequence(RENTER.peer)
        for operation, signers in (*late(escrow), (extend(escrow, sequence=sequence), (RENTER,))):
            signed = signed_op(CHAIN, operation, *signers)
            said = [ledger.apply(signed, ledger.time, verified=True) for ledger in (whole, short)]
            assert said[0] == said[1] or signed.op_id in whole.outcomes, "it was said before, and is forgotten"
            assert said[1].code in ("escrow_closed", "not_held", "stale_epoch"), said[1]
        assert escrow not in short.escrows
    assert whole.state_root() == short.state_root()
    short.check()
