"""The ledger with its economics in force, under random histories: nothing pays twice, every held item ends."""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from protocol import exposure
from protocol.accounts import RESERVE
from protocol.beacon import seal_part
from protocol.disputes import bond_min
from protocol.escrow_state import ChunkLease
from protocol.held import Held
from protocol.identity import Identity
from protocol.inheritance import BLAMABLE
from protocol.ledger import Ledger
from protocol.operations import (
    Absence,
    Appeal,
    Assign,
    BeaconCommit,
    BeaconReveal,
    Bond,
    Claim,
    EscrowClose,
    Handover,
    Inherited,
    Operation,
    Ruling,
    Settle,
    SignedOp,
    Surrender,
    Unbond,
    Verdict,
    signed_op,
)
from protocol.policy import Policy, longest_dispute
from protocol.prefix import sign_prefix
from protocol.units import CREDIT, DAY, SECOND
from tests.protocol import forgetful
from tests.protocol.ledger_world import (
    CHAIN,
    GENESIS,
    OTHER,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    TRACE,
    VALIDATOR,
    WATCHERS,
    open_escrow,
)

POLICY: Final = Policy(dispute_window=100 * SECOND, rule_time=300 * SECOND, beacon_time=10 * SECOND, has_beacon=True)
RICH: Final = tuple(("U", item.peer, 200 * CREDIT) for item in (*PROVIDERS, OTHER))
LAW: Final = replace(
    GENESIS,
    policy=POLICY,
    balances=(*GENESIS.balances, *RICH, ("S", VALIDATOR.peer, 10 * CREDIT)),
)
SPANS: Final = st.sampled_from([1, SECOND, 20 * SECOND, 20 * SECOND, 101 * SECOND, 301 * SECOND])
FINDINGS: Final = ("accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing")
PRICES: Final = st.integers(0, 20 * CREDIT)
FOREVER: Final = START + 365 * DAY


class HeldMachine(RuleBasedStateMachine):
    """Leases, claims, verdicts, appeals and rulings of all kinds; the books are checked after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(LAW)
        self.now = int(START)
        self.blocks = 0
        self.history: list[tuple[int, SignedOp | None]] = []
        self.ends: dict[bytes, str] = {}
        self.opened_at: dict[bytes, int] = {}

    def submit(self, operation: Operation, *signers: Identity) -> bool:
        signed = signed_op(CHAIN, operation, *signers)
        self.history.append((self.now, signed))
        return self.ledger.apply(signed, self.now, verified=True).status == "applied"

    def leases(self, *states: str) -> list[tuple[bytes, ChunkLease]]:
        escrows = self.ledger.escrows.items()
        return [(key, lease) for key, escrow in escrows for lease in escrow.chunks.values() if lease.state in states]

    def open_items(self, is_appealed: bool) -> list[Held]:
        return [held for held in self.ledger.held.values() if not held.end and held.is_appealed == is_appealed]

    def provider(self, key: bytes) -> Identity:
        return next(item for item in PROVIDERS if item.peer == key)

    # ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    @rule(span=SPANS)
    def wait(self, span: int) -> None:
        self.pass_time(span)

    def pass_time(self, span: int) -> None:
        self.now += span
        self.ledger.advance(self.now)
        self.history.append((self.now, None))

    def beacon(self) -> None:
        """The one validator seals and opens; a claim can be judged then."""
        self.block()
        number = self.ledger.beacon_wanted
        if number is not None:
            sealed = BeaconCommit(number, VALIDATOR.peer, seal_part(VALIDATOR.peer, number, bytes(32)))
            self.submit(sealed, VALIDATOR)
            self.block()
            assert self.submit(BeaconReveal(number, VALIDATOR.peer, bytes(32)), VALIDATOR)

    def block(self) -> None:
        self.blocks += 1
        self.ledger.state_root()
        self.ledger.commit(self.blocks.to_bytes(32, "big"))
        self.history.append((-self.blocks, None))

    def open(self, cap: int) -> bytes:
        sequence = self.ledger.next_sequence(RENTER.peer)
        operation = open_escrow(cap, sequence, FOREVER, sequence.to_bytes(16, "big"))
        self.submit(operation, RENTER)
        return signed_op(CHAIN, operation).op_id

    @initialize(caps=st.tuples(st.integers(CREDIT, 60 * CREDIT), st.integers(CREDIT, 200 * CREDIT)))
    def begin(self, caps: tuple[int, int]) -> None:
        for cap in caps:
            self.open(cap)

    @rule(data=st.data(), provider=st.sampled_from(PROVIDERS), price=PRICES, chunk=st.integers(0, 2))
    def work(self, data: st.DataObject, provider: Identity, price: int, chunk: int) -> None:
        """A lease; most of the time claimed at once, and covered by a beacon."""
        able = sorted(key for key, one in self.ledger.escrows.items() if not (one.is_closed or one.is_closing))
        key = data.draw(st.sampled_from(able)) if able else self.open(100 * CREDIT)
        escrow = self.ledger.escrows.get(key)
        if escrow is None:
            return
        lease = escrow.chunks.get(chunk)
        epoch = lease.epoch + 1 if lease else 1
        times = (self.now + 200 * SECOND, self.now + 400 * SECOND)
        evidence = data.draw(st.sampled_from([0, 1_000]))
        operation = Assign(key, chunk, epoch, provider.peer, price, price, *times, WATCHERS, evidence)
        standing = self.ledger.standings.get(provider.peer)
        is_done = self.submit(operation, STEWARD, provider)
        assert not (is_done and standing and standing.fraud)
        if is_done and data.draw(st.integers(0, 3)):
            self.claim(key, self.ledger.escrows[key].chunks[chunk], data.draw(st.integers(0, 3)))
            if data.draw(st.integers(0, 3)):
                self.beacon()

    def claim(self, key: bytes, lease: ChunkLease, count: int) -> None:
        """All units, the first of which so many earlier leases signed for."""
        words: list[Inherited] = []
        former = lease.former | lease.tainted
        for epoch in sorted(former)[-count:] if count else ():
            signer = self.provider(former[epoch])
            words.append(sign_prefix(signer, CHAIN, key, lease.chunk, epoch, len(words) + 1, TRACE, tuple(words)))
        more = {"inherited": tuple(words)} if words else {}
        operation = Claim(key, lease.chunk, lease.epoch, bytes(32), TRACE, 4, **more)
        assert self.submit(operation, self.provider(lease.provider))

    @rule(data=st.data(), kind=st.sampled_from(["claim", "surrender", "handover", "settle"]))
    @precondition(lambda self: bool(self.leases("assigned")))
    def go_on(self, data: st.DataObject, kind: str) -> None:
        escrow, lease = data.draw(st.sampled_from(self.leases("assigned")))
        place, who = (escrow, lease.chunk, lease.epoch), self.provider(lease.provider)
        operations: dict[str, Operation] = {
            "claim": Claim(*place, bytes(32)),
            "surrender": Surrender(*place, "draining"),
            "handover": Handover(*place, 500_000, 1, bytes(32)),
            "settle": Settle(*place, lease.price // 2),
        }
        self.submit(operations[kind], who, STEWARD)

    @rule(data=st.data(), outcome=st.sampled_from(["accept", "accept", *FINDINGS]), is_audited=st.booleans())
    @precondition(lambda self: bool(self.leases("claimed")))
    def verdict(self, data: st.DataObject, outcome: str, is_audited: bool) -> None:
        if data.draw(st.integers(0, 9)):
            self.beacon()
        escrow, lease = data.draw(st.sampled_from(self.leases("claimed")))
        fields = (outcome, is_audited, OTHER.peer, bytes(32), bytes(32), "code")
        faulted = data.draw(st.sampled_from([(), (PROVIDERS[1].peer,), (OTHER.peer, PROVIDERS[2].peer)]))
        more: dict[str, object] = {"faulted": faulted} if faulted else {}
        agreed = (b"1" * 32, b"2" * 32) if is_audited and OTHER.peer not in faulted and data.draw(st.booleans()) else ()
        more |= {"agreed": agreed} if agreed else {}
        if lease.inherited and outcome in BLAMABLE:
            more["blamed"] = data.draw(st.sampled_from(sorted(lease.inherited)))
        operation = Verdict(escrow, lease.chunk, lease.epoch, *fields, **more)  # type: ignore[arg-type]
        assert self.submit(operation, VALIDATOR) == bool(lease.beacon)

    @rule(data=st.data(), more=st.integers(-1, 2), who=st.sampled_from([*PROVIDERS, RENTER, STEWARD, OTHER]))
    @precondition(lambda self: bool(self.open_items(is_appealed=False)))
    def appeal(self, data: st.DataObject, more: int, who: Identity) -> None:
        held = data.draw(st.sampled_from(self.open_items(is_appealed=False)))
        if data.draw(st.booleans()):
            who = self.provider(held.provider) if held.finding != "accept" else RENTER
        number = held.round + 1
        bond = bond_min(POLICY, held.price, min(3, number)) + more
        rival = TRACE if who.peer == held.provider else b"r" * 32
        place = (held.escrow, held.chunk, held.epoch)
        is_done = self.submit(Appeal(*place, who.peer, bond, rival, min(3, number)), who)
        assert not is_done or (more >= 0 and number <= held.last_round and self.now <= held.until)

    @rule(data=st.data(), finding=st.sampled_from(FINDINGS))
    @precondition(lambda self: bool(self.open_items(is_appealed=True)))
    def decide(self, data: st.DataObject, finding: str) -> None:
        held = data.draw(st.sampled_from(self.open_items(is_appealed=True)))
        word = "upheld" if finding == held.finding else "overturned"
        fields = (held.round + 1, word, finding, (VALIDATOR.peer,), bytes(32), "panel")
        operation = Ruling(held.escrow, held.chunk, held.epoch, *fields)  # type: ignore[arg-type]
        assert self.submit(operation, VALIDATOR)

    @rule(data=st.data(), who=st.sampled_from(PROVIDERS), amount=st.integers(1, 30 * CREDIT))
    def chore(self, data: st.DataObject, who: Identity, amount: int) -> None:
        match data.draw(st.sampled_from(["bond", "unbond", "miss", "open", "close", "wait", "wait", "beacon"])):
            case "miss":
                self.submit(Absence(who.peer, self.now // DAY), VALIDATOR)
            case "open":
                self.open(amount)
            case "close":
                self.close(data.draw(st.sampled_from(sorted(self.ledger.escrows))))
            case "beacon":
                self.beacon()
            case "wait":
                self.pass_time(SECOND)
            case kind:
                change = Bond if kind == "bond" else Unbond
                self.submit(change(who.peer, 0, self.ledger.next_sequence(who.peer), amount), who)

    def close(self, key: bytes) -> None:
        escrow = self.ledger.escrows[key]
        can = not (escrow.is_closed or escrow.is_closing or escrow.leased)
        is_new = signed_op(CHAIN, EscrowClose(key)).op_id not in self.ledger.outcomes
        assert self.submit(EscrowClose(key), STEWARD) == (can or not is_new)

    # ── invariants ───────────────────────────────────────────────────────────────────────────────────────────────────
    @invariant()
    def books_balance(self) -> None:
        """I1–I5, and all money is in accounts or has left by way of the reserve."""
        self.ledger.check()
        accounts = self.ledger._state.accounts
        inside = sum(accounts.balance(key) for key in accounts if key != RESERVE)
        assert inside == -accounts.balance(RESERVE) <= sum(amount for _, _, amount in LAW.balances)
        assert all(accounts.available(key) >= 0 for key in accounts if key != RESERVE)

    @invariant()
    def items_end_once_and_in_time(self) -> None:
        for key, held in self.ledger.held.items():
            since = self.opened_at.setdefault(key, self.now)
            assert held.end or self.now - since <= 2 * longest_dispute(POLICY)
            assert self.ends.setdefault(key, held.end) in ("", held.end)
            self.ends[key] = held.end

    @invariant()
    def nobody_is_paid_twice(self) -> None:
        """What an escrow paid is the price of each lease and share that was kept, at most once, and never above it."""
        for escrow in self.ledger.escrows.values():
            paid = [line for line in escrow.lines if line.kind == "pay"]
            spent = sum(line.amount for line in escrow.lines if line.kind in ("pay", "commission", "evidence"))
            assert spent == escrow.paid + escrow.commission + escrow.evidence <= escrow.cap
            notes = [(line.credit, line.note) for line in paid if not line.note.endswith("after all")]
            assert len(notes) == len(set(notes))

    @invariant()
    def standings_never_fall_below_nothing(self) -> None:
        for standing in self.ledger.standings.values():
            assert min(getattr(standing, name) for name in standing.__struct_fields__) >= 0
            assert standing.consecutive_valid <= standing.accepted + standing.settled

    @invariant()
    def flight_is_what_is_leased_and_held(self) -> None:
        for lease in (chunk for escrow in self.ledger.escrows.values() for chunk in escrow.chunks.values()):
            assert max(lease.former, default=0) <= lease.epoch
            assert all(lease.former.get(epoch, key) == key for epoch, key in lease.inherited.items())
            assert not lease.former.keys() & lease.tainted.keys()
        for provider in PROVIDERS:
            running = sum(
                lease.price for _, lease in self.leases("assigned", "claimed") if lease.provider == provider.peer
            )
            held = exposure.held_pay(self.ledger._state, provider.peer)
            assert exposure.in_flight(self.ledger._state, provider.peer) == running + held

    def teardown(self) -> None:
        """Everything ends by itself; and another replica with the same history holds the same bytes."""
        other = Ledger(LAW)
        for time, signed in self.history:
            if signed is not None:
                other.apply(signed, time, verified=True)
            elif time > 0:
                other.advance(time)
            else:
                other.state_root()
                other.commit((-time).to_bytes(32, "big"))
        assert other.encode() == self.ledger.encode()
        forgetful.compare(LAW, self.history)
        self.now += 2 * longest_dispute(POLICY)
        self.ledger.advance(self.now)
        self.ledger.advance(self.now + 1)
        assert all(held.end for held in self.ledger.held.values())
        assert all(escrow.is_closed for escrow in self.ledger.escrows.values() if escrow.is_closing)
        self.ledger.check()


HeldMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=50)
TestHeldLedger = HeldMachine.TestCase
