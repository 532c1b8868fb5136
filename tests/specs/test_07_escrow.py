"""specs/07-escrow.md against protocol.escrow, leases_ledger, automatic and escrow_state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import specs
from protocol import closing, escrow, operations
from protocol.accounts import FEES, TREASURY
from protocol.escrow_state import BEACON, CLOSE, EXPIRE, HOLD, POSTED_KINDS, RELEASE, RULE, ChunkState, Line
from protocol.identity import Identity
from protocol.operations import Claim, EscrowClose, Mint, Operation, Unbond
from protocol.prefix import sign_prefix
from protocol.units import CREDIT, DAY
from tests.protocol.ledger_world import (
    CHAIN,
    CLAIM_BY,
    DEADLINE,
    FUNDS,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STAKE,
    STANDBY,
    STEWARD,
    VALIDATOR,
    VERDICT_BY,
    OutcomeName,
    World,
    appeal,
    assign,
    claim,
    extend,
    fence,
    handover,
    open_escrow,
    ruling,
    settle,
    surrender,
    verdict,
    with_policy,
)

SPEC = specs.load("07-escrow")
P = PROVIDERS[0]


def split(price: int) -> tuple[int, int]:
    """The document's `split`."""
    found = SPEC.functions["split"](price)
    assert isinstance(found, tuple)
    return found[0], found[1]


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (operations, escrow, closing):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


@given(spans=st.lists(st.integers(1, 3).map(lambda days: days * DAY), min_size=1, max_size=8), few=st.integers(0, 4))
def test_closed_escrows_are_forgotten_by_age_and_number(spans: list[int], few: int) -> None:
    world, closed = World(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "KEPT_MIN", few)
        patch.setitem(SPEC.functions["is_forgotten"].__globals__, "KEPT_MIN", few)
        for number, span in enumerate(spans):
            world.pass_time(world.time + span)
            key = world.ok(open_escrow(10**4, number, world.time + 1), RENTER)
            world.ok(EscrowClose(key), STEWARD)
            closed.append((key, world.time))
        since = range(len(closed) - 1, -1, -1)
        listed = zip(closed, since, strict=True)
        gone = [key for (key, at), after in listed if SPEC.functions["is_forgotten"](at, after, world.time)]
    assert list(world.ledger.bygone) == gone


def test_every_operation_has_its_signers() -> None:
    assert [row["operation"] for row in SPEC.table("signers")] == [kind.__name__ for kind in get_args(Operation)]


def test_states_are_those_of_the_code() -> None:
    rows = SPEC.table("states of a chunk")
    assert {row["state"] for row in rows} | {row["next"] for row in rows} == set(get_args(ChunkState))


def test_ranks_are_those_of_the_code() -> None:
    assert [int(row["rank"]) for row in SPEC.table("by itself")] == [EXPIRE, RELEASE, CLOSE, HOLD, RULE, BEACON]


@given(price=st.integers(0, 2**62), collateral=st.integers(0, 2**62))
def test_money_rules(price: int, collateral: int) -> None:
    share, fee = split(price)
    assert (share + fee, fee) == (price, operations.commission(price))
    for end in ("accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing"):
        assert SPEC.functions["fine"](price, collateral, end) == operations.slash(price, collateral, end)


@pytest.mark.parametrize("watchers", [1, 2, 3])
def test_fence_rule(watchers: int) -> None:
    world = World()
    watching = (STEWARD, STANDBY, OTHER)[:watchers]
    for seen in range(1, watchers + 1):
        opened = world.ok(open_escrow(cap=CREDIT * 10, sequence=seen - 1), RENTER)
        world.ok(assign(opened, watchers=tuple(item.peer for item in watching)), STEWARD, P)
        outcome = world.do(fence(opened), *watching[:seen])
        needed = SPEC.functions["fence_quorum"](watchers)
        assert isinstance(needed, int)
        assert (outcome.status == "applied") == (seen >= needed)


@given(
    is_open=st.booleans(),
    is_owner=st.booleans(),
    amount=st.sampled_from([0, 1, FUNDS - CREDIT, FUNDS - CREDIT + 1]),
    moved=st.sampled_from([-1, 0, 1]),
)
def test_extension_rule(is_open: bool, is_owner: bool, amount: int, moved: int) -> None:
    world = World()
    opened = world.ok(open_escrow(cap=CREDIT), RENTER)
    owner, sequence = (RENTER, 1) if is_owner else (STEWARD, 0)
    if not is_open:
        world.ok(EscrowClose(opened), STEWARD)
    available = world.ledger.available("U", owner.peer)
    said = SPEC.functions["extension_refusal"](is_open, is_owner, available, amount, moved < 0, moved > 0)
    outcome = world.do(extend(opened, amount, sequence, DEADLINE + moved, owner), owner)
    assert outcome.code == (said or "ok")
    assert said in {"", *(row["code"] for row in SPEC.table("extending an escrow"))}


VOUCHER = 1_000_007
LATER: Final[dict[str, object]] = {"claim_by": DEADLINE - 2, "verdict_by": DEADLINE}


def blamed(world: World, e: bytes, epoch: int, provider: Identity, before: int, signer: Identity) -> bytes:
    """Who went on from units of an earlier lease claims, and that one turns out to have done them badly."""
    word = sign_prefix(signer, CHAIN, e, 0, before, 1, b"w" * 32)
    world.ok(Claim(e, 0, epoch, bytes(32), b"t" * 32, 4, (word,)), provider)
    found = verdict(e, "rejected", epoch=epoch, is_audited=True, auditor=OTHER)
    return world.ok(replace(found, blamed=before), VALIDATOR)


def void(world: World, e: bytes) -> None:
    """An undecided lease counts for nothing, one of another's is given back, and the third goes on from there."""
    world.ok(claim(e), P)
    world.pass_time(VERDICT_BY + 1)
    world.ok(assign(e, 0, 2, PROVIDERS[1], **LATER), STEWARD, PROVIDERS[1])
    world.ok(surrender(e, epoch=2), PROVIDERS[1])
    world.ok(assign(e, 0, 3, P, **LATER), STEWARD, P)
    blamed(world, e, 3, P, 2, PROVIDERS[1])


ENDS: dict[str, Callable[[World, bytes], object]] = {
    "accept": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e), VALIDATOR)),
    "settled": lambda world, e: world.ok(settle(e, VOUCHER), P, STEWARD),
    "wrong": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "wrong"), VALIDATOR)),
    "fraud": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "fraud"), VALIDATOR)),
    "severe": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "severe"), VALIDATOR)),
    "rejected": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "rejected"), VALIDATOR)),
    "withheld": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "withheld"), VALIDATOR)),
    "missing": lambda world, e: (world.ok(claim(e), P), world.ok(verdict(e, "missing"), VALIDATOR)),
    "expired": lambda world, e: world.pass_time(CLAIM_BY + 1),
    "handed": lambda world, e: world.ok(handover(e), P, STEWARD),
    "fenced": lambda world, e: world.ok(fence(e), STEWARD, STANDBY),
    "surrendered": lambda world, e: world.ok(surrender(e), P),
    "undecided": lambda world, e: world.ok(claim(e), P) and world.pass_time(VERDICT_BY + 1),
    "void": void,
}


def second(world: World, e: bytes) -> bytes:
    return world.ok(assign(e, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])


def judged(world: World, e: bytes, outcome: OutcomeName) -> None:
    second(world, e)
    world.ok(claim(e, epoch=2, provider=PROVIDERS[1]), PROVIDERS[1])
    world.ok(verdict(e, outcome, epoch=2), VALIDATOR)


def late(world: World, e: bytes) -> None:
    second(world, e)
    world.ok(claim(e, epoch=2), PROVIDERS[1])
    world.pass_time(VERDICT_BY + 1)


NEXT: dict[str, Callable[[World, bytes], object]] = {
    "accept": lambda world, e: judged(world, e, "accept"),
    "settled": lambda world, e: (second(world, e), world.ok(settle(e, 0, epoch=2), PROVIDERS[1], STEWARD)),
    "wrong": lambda world, e: judged(world, e, "wrong"),
    "fraud": lambda world, e: judged(world, e, "fraud"),
    "severe": lambda world, e: judged(world, e, "severe"),
    "rejected": lambda world, e: judged(world, e, "rejected"),
    "withheld": lambda world, e: judged(world, e, "withheld"),
    "missing": lambda world, e: judged(world, e, "missing"),
    "undecided": late,
    "void": lambda world, e: (second(world, e), blamed(world, e, 2, PROVIDERS[1], 1, P)),
    "fenced": lambda world, e: (second(world, e), world.ok(fence(e, epoch=2), STEWARD, STANDBY)),
    "surrendered": lambda world, e: (second(world, e), world.ok(surrender(e, epoch=2), PROVIDERS[1])),
    "expired": lambda world, e: (second(world, e), world.pass_time(CLAIM_BY + 1)),
    "handed": lambda world, e: (second(world, e), world.ok(handover(e, epoch=2), PROVIDERS[1], STEWARD)),
}


@pytest.mark.parametrize("row", SPEC.table("ends of a lease"), ids=lambda row: row["end"])
def test_every_end_of_a_lease(row: specs.Row) -> None:
    """The table's words, executed."""
    world = World()
    opened = world.leased()
    ENDS[row["end"]](world, opened)
    lease = world.lease(opened)
    assert lease.outcome == row["end"]
    due = {"to the provider": PRICE, "the voucher's part to the provider": VOUCHER, "back": 0, "its share waits": 0}[
        row["price"]
    ]
    share, fee = split(due)
    assert world.ledger.available("U", P.peer) == share
    assert world.ledger.available(*FEES) == fee
    assert lease.state == ("paid" if due else "free")
    taken = {
        "back": 0,
        "10 % of the price to the treasury": PRICE // 10,
        "half to the treasury": PRICE // 2,
        "all to the treasury": PRICE,
    }[row["collateral"]]
    assert world.ledger.available(*TREASURY) == taken
    assert world.ledger.available("S", P.peer) == STAKE - taken
    counter, _, _ = row["counts as"].partition(",")
    standing = world.ledger.standings.get(P.peer)
    if counter.startswith("nothing"):
        assert standing is None
    else:
        assert getattr(standing, counter) == 1
        assert standing is not None
        assert standing.consecutive_valid == ("consecutive_valid + 1" in row["counts as"])
        assert standing.probation == (50 if "probation = 50" in row["counts as"] else 0)


@given(price=st.integers(0, 2**62), before=st.integers(0, 990_000), done=st.integers(0, 1_000_000))
def test_share_rules(price: int, before: int, done: int) -> None:
    said = SPEC.functions["share"](price, before, done)
    if said is not None:
        assert said == operations.handed_share(price, before, done)
    assert SPEC.functions["remaining"](price, before) == operations.remaining_price(price, before)


@pytest.mark.parametrize("done", [0, 249_999, 250_000, 990_000, 990_001, 1_000_000])
def test_refused_shares(done: int) -> None:
    world = World()
    opened = world.leased()
    world.ok(handover(opened, 250_000), P, STEWARD)
    world.ok(assign(opened, epoch=2), STEWARD, P)
    said = SPEC.functions["share"](PRICE, 250_000, done)
    outcome = world.do(handover(opened, done, epoch=2), P, STEWARD)
    assert outcome.code == ("bad_share" if said is None else "ok")
    assert said is None or world.lease(opened).carried[-1].amount == said


WORDS = {
    "paid": "paid",
    "the renter's again; the chunk begins at 0": "void",
    "the renter's again": "void",
    "wait on: the chunk is leased again": "",
}


@pytest.mark.parametrize("row", SPEC.table("handing a lease over"), ids=lambda row: row["the chunk's end"])
def test_what_becomes_of_a_share(row: specs.Row) -> None:
    """A lease handed over half done; the next one ends in every way."""
    for end in row["the chunk's end"].split(", "):
        world = World()
        opened = world.leased()
        world.ok(handover(opened), P, STEWARD)
        if end == "the escrow closes":
            world.ok(EscrowClose(opened), STEWARD)
        else:
            NEXT[end](world, opened)
        (share, *_), before = world.lease(opened).carried, world.ledger.available("U", P.peer)
        word = row["waiting shares"].split(",")[0]
        assert share.outcome == WORDS[word]
        assert before == (split(share.amount)[0] if share.outcome == "paid" else 0)
        assert world.lease(opened).done_ppm == (0 if share.outcome == "void" else 500_000)


def test_posted_kinds_are_those_of_the_code() -> None:
    rows = SPEC.table("statement")
    assert {row["kind"] for row in rows if row["posted"] == "yes"} == POSTED_KINDS


def held_lines(end: OutcomeName, finding: OutcomeName) -> list[Line]:
    """The statement of a chunk whose verdict was appealed, in a network with a policy; `finding` is the ruling's."""
    world = World(with_policy())
    for number, peer in enumerate((P, STEWARD)):
        world.ok(Mint(bytes([number]) * 32, peer.peer, 100 * CREDIT), VALIDATOR)
    world.ok(Unbond(P.peer, 0, 0, CREDIT), P)
    opened = world.ok(open_escrow(), RENTER)
    world.ok(assign(opened, evidence=7), STEWARD, P)
    world.ok(claim(opened), P)
    world.ok(verdict(opened, end, is_audited=True, auditor=OTHER), VALIDATOR)
    who = PROVIDERS[1] if end == "accept" else P
    world.ok(appeal(opened, who), who)
    world.ok(ruling(opened, finding, is_upheld=finding == end), VALIDATOR)
    world.ok(EscrowClose(opened), STEWARD)
    world.mature()
    return world.ledger.escrows[opened].lines


def test_lines_go_where_the_table_says() -> None:
    table = {row["kind"]: row for row in SPEC.table("statement")}
    lines: list[Line] = []
    for end in ENDS.values():
        world = World()
        opened = world.leased()
        end(world, opened)
        world.ok(EscrowClose(opened), STEWARD)
        lines += world.ledger.escrows[opened].lines
    pairs: list[tuple[OutcomeName, OutcomeName]] = [("accept", "accept"), ("accept", "fraud"), ("fraud", "fraud")]
    for verdict_, finding in [*pairs, ("fraud", "accept")]:
        lines += held_lines(verdict_, finding)
    for line in lines:
        row = table[line.kind]
        assert line.debit[0] in {part.strip()[0] for part in row["from"].split(",")}
        assert line.credit[0] in {part.strip()[0] for part in row["to"].split(",")}
    assert {line.kind for line in lines} == set(table)
