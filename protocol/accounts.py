"""Double-entry accounts with two-phase moves. Spec: specs/06-ledger.md.

A balance is never written: it follows from moves, and moves come in linked groups that happen whole or not at all.
Vocabulary and rules after TigerBeetle's two-phase transfers (pending, post, void).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from protocol.errors import LocalError, Refused

AccountKey = tuple[str, bytes]
"""Class and id: `("U", peer)`, `("E", escrow)`, `("S", peer)`, `("B", peer)`; `T`, `F` and `R` have an id of zeros."""

CLASSES: Final = {
    "U": "user", "E": "escrow", "S": "stake", "B": "unbonding", "T": "treasury", "F": "fees", "R": "external reserve",
}  # fmt: skip

NO_ID: Final = bytes(32)
TREASURY: Final[AccountKey] = ("T", NO_ID)
FEES: Final[AccountKey] = ("F", NO_ID)
RESERVE: Final[AccountKey] = ("R", NO_ID)
"""Money outside: what it owes equals all that is inside (I3). The only account that may be debit-heavy."""


class Account:
    """Four counters in smallest units. Posted ones never fall (I7)."""

    __slots__ = ("credits_pending", "credits_posted", "debits_pending", "debits_posted")

    def __init__(self) -> None:
        self.debits_pending = 0
        self.debits_posted = 0
        self.credits_pending = 0
        self.credits_posted = 0

    @property
    def available(self) -> int:
        """What may be spent now: pended debits are gone already, pended credits are not here yet."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    def encode(self) -> bytes:
        """The four counters as text: they may outgrow 64 bits, balances never do."""
        return b"%d %d %d %d" % (self.debits_pending, self.debits_posted, self.credits_pending, self.credits_posted)


class Post(Struct, frozen=True, gc=False):
    """Move `amount` now."""

    debit: AccountKey
    credit: AccountKey
    amount: int


class Pend(Struct, frozen=True, gc=False):
    """Promise `amount`: the debit account cannot spend it, the credit account has not got it yet."""

    id: bytes
    debit: AccountKey
    credit: AccountKey
    amount: int


class PostPend(Struct, frozen=True, gc=False):
    """Keep a promise, wholly or in part; the rest is free again for the debit account."""

    id: bytes
    amount: int


class VoidPend(Struct, frozen=True, gc=False):
    """Take a promise back."""

    id: bytes


Move = Post | Pend | PostPend | VoidPend


class Accounts:
    """All accounts and open promises. The one way to change them is `apply`."""

    __slots__ = ("_accounts", "pending", "touched")

    def __init__(self) -> None:
        self._accounts: dict[AccountKey, Account] = {}
        self.pending: dict[bytes, Pend] = {}
        """Promises by id; an id leaves when it is kept or taken back, so it resolves at most once (I4)."""
        self.touched: set[AccountKey] = set()
        """Accounts changed since the last state root; the ledger empties it."""

    def __getitem__(self, key: AccountKey) -> Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
        return account

    def __iter__(self) -> Iterator[AccountKey]:
        return iter(self._accounts)

    def available(self, key: AccountKey) -> int:
        """Spendable smallest units; 0 for an account that nobody has used."""
        account = self._accounts.get(key)
        return 0 if account is None else account.available

    def balance(self, key: AccountKey) -> int:
        """Smallest units that an account holds, promised ones among them."""
        account = self._accounts.get(key)
        return 0 if account is None else account.credits_posted - account.debits_posted

    def forget(self, key: AccountKey) -> None:
        """Keep nothing of an account that is empty for good: what came in has gone out, and no sum changes."""
        account = self._accounts.pop(key, None)
        if account is not None and (account.available or account.debits_pending or account.credits_pending):
            raise LocalError(f"account {key} is forgotten with {account.encode()!r}", code="I3")
        self.touched.discard(key)

    def apply(self, moves: Sequence[Move]) -> None:
        """Make all moves or none. Raises `Refused` (`insufficient_…`) when an account cannot cover its debits.

        What an account gets in a group cannot be spent in the same group: every debit is covered beforehand."""
        self._cover(moves)
        for move in moves:
            if isinstance(move, Pend):
                self._pend(move)
            elif isinstance(move, PostPend):
                self._resolve(move.id, move.amount)
            elif isinstance(move, Post):
                self._post(move)
            else:
                self._resolve(move.id, 0)

    def check(self) -> None:
        """Every invariant that spans accounts (I1–I4). Raises `LocalError` naming the numbers that disagree."""
        posted = pended = inside = 0
        promised: dict[AccountKey, list[int]] = {}
        for pend in self.pending.values():
            promised.setdefault(pend.debit, [0, 0])[0] += pend.amount
            promised.setdefault(pend.credit, [0, 0])[1] += pend.amount
        for key, account in self._accounts.items():
            posted += account.debits_posted - account.credits_posted
            pended += account.debits_pending - account.credits_pending
            if [account.debits_pending, account.credits_pending] != promised.get(key, [0, 0]):
                raise LocalError(
                    f"account {key} pends {account.encode()!r}, its promises say {promised.get(key)}", code="I4"
                )
            if key[0] != "R":
                inside += account.credits_posted - account.debits_posted
                if account.available < 0:
                    raise LocalError(f"account {key} is overdrawn by {-account.available}", code="I2")
        if posted or pended:
            raise LocalError(f"debits exceed credits by {posted} posted, {pended} pending", code="I1")
        outside = self[RESERVE].debits_posted - self[RESERVE].credits_posted
        if outside != inside:
            raise LocalError(f"the reserve owes {outside}, accounts hold {inside}", code="I3")

    def _cover(self, moves: Sequence[Move]) -> None:
        need: dict[AccountKey, int] = {}
        ids: set[bytes] = set()
        for move in moves:
            if isinstance(move, Post | Pend):
                if move.amount <= 0 or move.debit == move.credit:
                    raise LocalError(
                        f"a move of {move.amount} from {move.debit} to {move.credit} is no move", code="bad_move"
                    )
                need[move.debit] = need.get(move.debit, 0) + move.amount
            if isinstance(move, Post):
                continue
            pended = self.pending.get(move.id)
            if move.id in ids or (pended is not None) == isinstance(move, Pend):
                raise LocalError(f"promise {move.id.hex()} is made or resolved twice", code="I4")
            if isinstance(move, PostPend) and pended is not None and not 0 < move.amount <= pended.amount:
                raise LocalError(f"posting {move.amount} of a promise of {pended.amount}", code="I4")
            ids.add(move.id)
        for key, amount in need.items():
            available = self.available(key)
            if amount > available and key[0] != "R":
                raise _insufficient(key, amount, available)

    def _post(self, move: Post) -> None:
        self[move.debit].debits_posted += move.amount
        self[move.credit].credits_posted += move.amount
        self.touched.add(move.debit)
        self.touched.add(move.credit)

    def _pend(self, move: Pend) -> None:
        self[move.debit].debits_pending += move.amount
        self[move.credit].credits_pending += move.amount
        self.pending[move.id] = move
        self.touched.add(move.debit)
        self.touched.add(move.credit)

    def _resolve(self, pend_id: bytes, amount: int) -> None:
        pend = self.pending.pop(pend_id)
        debit, credit = self._accounts[pend.debit], self._accounts[pend.credit]
        debit.debits_pending -= pend.amount
        credit.credits_pending -= pend.amount
        debit.debits_posted += amount
        credit.credits_posted += amount
        self.touched.add(pend.debit)
        self.touched.add(pend.credit)


def _insufficient(key: AccountKey, amount: int, available: int) -> Refused:
    name = CLASSES[key[0]]
    return Refused(
        f"{name} holds {available} free, {amount} needed",
        code=f"insufficient_{name}",
        fix="Deposit more, or wait until open leases end.",
        numbers={"available": available, "needed": amount},
    )
