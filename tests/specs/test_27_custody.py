"""specs/27-custody.md against protocol/snapshots.py and storage/."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import snapshots
from protocol.messages import Message
from protocol.snapshots import Manifest, Pack
from protocol.units import HOUR, Micros, PeerId
from storage import (
    audits,
    custodian,
    durability,
    holder,
    leases,
    placement,
    protected,
    protection,
    protector,
    repairs,
    spreading,
    standing,
)
from storage.durability import choose, gone_at_most, loss, verdict
from storage.erasure import ANCHOR, ANCHOR_WIDE, COPIES, ROLLING, Code
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.protected import Protected, Snapshot, Waiting
from storage.receipts import Custody
from storage.standing import Standings
from tests.storage.vault_town import Town

SPEC = specs.load("27-custody")
MODULES: tuple[ModuleType, ...] = (
    audits, custodian, durability, holder, leases, placement, protected, protection, protector, repairs, spreading,
    standing,
)  # fmt: skip
CODES = [Code(1, 1), Code(1, 2), COPIES, ROLLING, ANCHOR, ANCHOR_WIDE]
TOWN = Town(1)
LEASE = TOWN.begin(TOWN.all[0], None, TOWN.all[0])
gones = st.floats(0, 1)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_messages_are_the_protocol_s() -> None:
    known = {kind.__name__ for kind in Message.__args__}
    listed = {row["message"] for row in SPEC.table("messages")}
    assert listed <= known
    assert all(hasattr(snapshots, name) for name in listed)


def test_leases() -> None:
    rows = next(rows for title, rows in SPEC.tables if title == "holding" and "purpose" in rows[0])
    for row in rows:
        purpose = row["purpose"]
        spans = {name: (span, leases.GRACE[name]) for name, span in leases.LEASE_MAX.items() if name == purpose}
        said = (int(row["longest lease, hours"]) * HOUR, float(row["grace, hours"]) * HOUR)
        assert list(spans.values()) == [said]


@given(st.integers(1, 40), st.integers(0, 24))
def test_required(k: int, more: int) -> None:
    assert SPEC.functions["required"](k, k + more) == snapshots.required(k, k + more)


@given(st.sampled_from(CODES), st.integers(0, 40), gones)
def test_loss(code: Code, placed: int, gone: float) -> None:
    assert SPEC.functions["loss"](code.k, placed, gone) == pytest.approx(loss(code, placed, gone), abs=1e-12)


@given(st.integers(0, 1_000), st.integers(0, 10_000))
def test_the_bound(failures: int, more: int) -> None:
    seen = failures + more
    assert SPEC.functions["gone_at_most"](failures, seen) == pytest.approx(gone_at_most(failures, seen))


@given(st.sampled_from(CODES), st.integers(0, 40), gones, st.sampled_from(["rolling", "anchor", "volume"]))
def test_the_word_durable(code: Code, domains: int, gone: float, purpose: str) -> None:
    said = verdict(code, domains, domains, gone, purpose)  # type: ignore[arg-type]
    assert said.is_durable == SPEC.functions["is_called_durable"](code.k, code.n, domains, gone, purpose)


@given(st.integers(0, 80), gones)
def test_codes(domains: int, gone: float) -> None:
    needed = {row["code"]: int(row["domains needed"]) for row in SPEC.table("codes")}
    names = {8: {14: "8 of 14", 20: "8 of 20"}, 16: {32: "16 of 32"}}
    for code in (choose(domains, gone, "rolling"), choose(domains, gone, "anchor")):
        name = names.get(code.k, {}).get(code.n, "copies, up to 3")
        assert domains >= needed[name] or domains == 0
        assert (code.k == 1) == (domains < needed["8 of 14"])


def test_states() -> None:
    listed = [row["state"] for row in SPEC.table("a snapshot's way")]
    assert listed == [kind.__name__.lower() for kind in protected.State.__args__]


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=8))
def test_what_is_let_go(drawn: list[tuple[bool, bool, bool]]) -> None:
    pack = Pack(1, 1, "copy", 1, 1, (bytes(32),))
    one = Protected(LEASE, Cadence("min-loss", Micros(0), Hazard(), Micros(0), Micros(0)), Waiting(Micros(0)))
    listed = []
    for number, (is_anchor, is_durable, proved) in enumerate(drawn):
        manifest = Manifest(bytes(16), bytes(32), 0, 1, number, 0, 0, "framework", 0, 0, 0, (pack,))
        purpose: snapshots.Purpose = "anchor" if is_anchor else "rolling"
        made = Snapshot(manifest, (Custody(pack),), purpose, Micros(0))
        made.is_durable, made.is_verified = is_durable, is_durable and proved
        one.snapshots.append(made)
        listed.append((number, is_anchor, is_durable, is_durable and proved))
    assert [gone.manifest.number for gone in one.retired()] == SPEC.functions["let_go"](listed)


def test_lies_until_barred() -> None:
    standings, peer, count = Standings(), PeerId(bytes(32)), 0
    while not standings.of(peer).is_barred:
        standings.lied(peer, Micros(0))
        count += 1
    assert count == SPEC.functions["lies_until_barred"]()


@given(st.sampled_from(CODES), st.integers(0, 40))
def test_repairs(code: Code, alive: int) -> None:
    assert SPEC.functions["is_repair_due"](code.k, code.n, alive) == (alive <= repairs.trigger(code))
