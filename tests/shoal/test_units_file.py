"""`shoal verify RECEIPT --units FILE`: the receipt and what was opened, and nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from protocol import dossier, dossier_file, operations, wire
from protocol.audit_messages import Reveal
from protocol.dossier import Dossier
from protocol.dossier_file import OpenedClaim, OpenedJob
from protocol.errors import Refused
from protocol.genesis import Genesis
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Header
from protocol.operations import Claim, EscrowClose, EscrowOpen, Operation, Verdict, op_id
from protocol.units import Digest, PeerId
from shoal import receipts, units_file
from shoal.cli import main
from shoal.receipt_account import Account, Lease
from shoal.units_file import UnitsAccount
from simulations.units import EXACT
from tests.shoal.test_receipts import CHAIN, GENESIS, GOOD, OPEN, VALIDATOR, assign, receipt_of
from tests.verifier import beacon_blocks, court
from tests.verifier.unit_court import UnitCourt

NOBODY: Final = PeerId(bytes(32))
SPEC: Final = wire.encode(JobSpec("job", "python", ("true",), (Chunk(),) * 2))
OPENED: Final = replace(OPEN, spec=wire.digest(SPEC))
ESCROW: Final = op_id(wire.encode(OPENED))
SALT, OUTPUT = b"s" * 32, Digest(b"o" * 32)
SEAL: Final = operations.seal(GOOD.peer, SALT, OUTPUT)
HEAD: Final = OpenedJob(CHAIN, ESCROW, SPEC)


def accepted(chunk: int) -> Verdict:
    return Verdict(ESCROW, chunk, 1, "accept", False, VALIDATOR.peer, OUTPUT, OUTPUT, "not_sampled")


STORY: Final[tuple[Operation, ...]] = (
    OPENED,
    *(replace(assign(chunk, 1, GOOD), escrow=ESCROW) for chunk in (0, 1, 2)),
    *(Claim(ESCROW, chunk, 1, SEAL) for chunk in (0, 1, 2)),
    *(accepted(chunk) for chunk in (0, 1)),
    Verdict(ESCROW, 2, 1, "missing", False, VALIDATOR.peer, bytes(32), SEAL, "not_revealed"),
    EscrowClose(ESCROW),
)
RECEIPT: Final = wire.encode(replace(receipt_of(STORY), escrow=ESCROW))


def shown(chunk: int, salt: bytes = SALT) -> OpenedClaim:
    """What a judge kept of an honest claim that was not drawn."""
    made = Dossier(ESCROW, chunk, 1, reveal=Reveal(ESCROW, chunk, 1, OUTPUT, 3, salt))
    return OpenedClaim(chunk, 1, wire.encode(made))


NOTHING: Final = OpenedClaim(2, 1, why="nothing is kept of it")
FILE: Final = (HEAD, shown(0), shown(1), NOTHING)


def save(path: Path, items: tuple[OpenedJob | OpenedClaim, ...]) -> Path:
    path.write_bytes(b"".join(dossier_file.frame(item) for item in items))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job.receipt").write_bytes(RECEIPT)
    (tmp_path / "genesis.json").write_text(GENESIS.to_json(), encoding="utf-8")
    return tmp_path


def run(place: Path, *more: str) -> int:
    units = ("--units", str(place / "job.units"), "--genesis", str(place / "genesis.json"))
    return main(["verify", str(place / "job.receipt"), *units, *more])


def test_what_was_opened_agrees(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the claim that was never opened there is nothing to show, and nothing is missing."""
    save(place / "job.units", FILE)
    assert run(place) == 0
    assert "2 of 3 claims as they were opened" in capsys.readouterr().out
    assert run(place, "--json") == 0
    told = json.loads(capsys.readouterr().out)["units"]
    assert told == {"claims": 2, "judged": 3, "units": 0, "executions": 0, "scored": 0}


CHANGES: Final[dict[str, tuple[tuple[OpenedJob | OpenedClaim, ...], str, str]]] = {
    "another job's": ((replace(HEAD, escrow=bytes(32)), *FILE[1:]), "units_false", "of escrow 0000"),
    "another network's": ((replace(HEAD, chain="other"), *FILE[1:]), "units_false", "of network 'other'"),
    "another specification": ((replace(HEAD, spec=SPEC + b"x"), *FILE[1:]), "units_false", "the escrow names"),
    "a claim twice": ((*FILE, shown(0)), "units_false", "chunk 0 epoch 1 is in it twice"),
    "a claim of nobody": ((*FILE, shown(9)), "units_false", "chunk 9 epoch 1 has no verdict"),
    "another's words": ((HEAD, OpenedClaim(0, 1, shown(1).dossier)), "units_false", "another claim"),
    "rubbish": ((HEAD, OpenedClaim(0, 1, b"rubbish")), "units_false", "chunk 0 epoch 1: "),
    "another salt": ((HEAD, shown(0, bytes(32))), "units_false", "chunk 0 epoch 1: the opening gives seal"),
    "a claim less": (FILE[:2], "units_gap", "of 1 of 3 claims too little was opened: chunk 1 epoch 1: it is not in"),
    "no claim": ((HEAD,), "units_gap", "of 2 of 3 claims"),
    "nothing kept": ((HEAD, shown(0), OpenedClaim(1, 1, why="they forgot")), "units_gap", "they forgot"),
    "nothing opened": (
        (HEAD, shown(0), OpenedClaim(1, 1, wire.encode(Dossier(ESCROW, 1, 1)))), "units_gap", "opening is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(change: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items, code, words = CHANGES[change]
    save(place / "job.units", items)
    assert run(place) == 3
    said = capsys.readouterr().err
    assert f"[{code}]" in said and words in said and "fix: " in said


def test_a_file_that_is_none_or_not_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(place) == 2
    assert "job.units cannot be read" in capsys.readouterr().err
    (place / "job.units").write_bytes(b"\0\0\0\1x")
    assert run(place) == 3
    assert "[not_a_units_file]" in capsys.readouterr().err


def test_a_file_without_its_specification_is_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(place / "job.units", FILE[1:])
    assert run(place) == 3
    assert "frame 0 is that of a claim" in capsys.readouterr().err


def test_a_specification_that_is_none_has_no_units(place: Path) -> None:
    opened: EscrowOpen = replace(OPENED, spec=wire.digest(b"none"))
    escrow = op_id(wire.encode(opened))
    account = receipts.verify(wire.encode(replace(receipt_of((opened,)), escrow=escrow)), GENESIS)
    path = save(place / "x.units", (OpenedJob(CHAIN, escrow, b"none"),))
    with pytest.raises(Refused, match="its specification: "):
        units_file.verify(account, path, GENESIS)


# ── with units ───────────────────────────────────────────────────────────────────────────────────────────────────────
def audited(genesis: Genesis, beacon: Digest | None, header: Header) -> tuple[UnitCourt, Account]:
    """A claim with units, replayed and accepted, and what a receipt of it says."""
    held = UnitCourt()
    held.beacon = beacon or b""
    held.order()
    held.know_spec()
    held.unfold()
    auditor = held.replay(EXACT)
    held.show()
    held.uncover(auditor)
    claim = Claim(court.ESCROW, 0, 1, held.case.sealed, held.case.trace, held.case.units)
    account = Account(escrow_id=court.ESCROW, spec=held.spec)
    account.claims[0, 1], account.verdicts[0, 1] = (claim, header), held.verdict()
    account.leases[0, 1] = Lease(0, 1, court.PROVIDER.peer, 10, 10)
    assert genesis.chain == CHAIN
    return held, account


def written(path: Path, held: UnitCourt, change: Callable[[Dossier], Dossier] = lambda one: one) -> Path:
    made = change(held.judge.dossiers.dossier_of(held.case))
    return save(path, (OpenedJob(CHAIN, court.ESCROW, held.blob), OpenedClaim(0, 1, wire.encode(made))))


def test_units_are_drawn_from_the_block_of_the_claim(tmp_path: Path) -> None:
    """Where the network has no beacons of its own."""
    held, account = audited(GENESIS, None, court.Court().header())
    found = units_file.verify(account, written(tmp_path / "a", held), GENESIS)
    assert found == UnitsAccount(claims=1, judged=1, units=4, executions=1)
    account.claims[0, 1] = (account.claims[0, 1][0], replace(account.claims[0, 1][1], time=1))
    with pytest.raises(Refused, match="the beacon drew"):
        units_file.verify(account, written(tmp_path / "a", held), GENESIS)


def test_units_are_drawn_from_the_beacon_whose_parts_are_in_the_file(tmp_path: Path) -> None:
    network = beacon_blocks.NETWORK
    parts, value = beacon_blocks.beacon_blocks()
    held, account = audited(network, value, beacon_blocks.header_at(20))
    with_parts = written(tmp_path / "a", held, lambda one: replace(one, beacon=tuple(parts)))
    assert units_file.verify(account, with_parts, network).units == 4
    with pytest.raises(Refused, match="the beacon that drew its units is missing") as caught:
        units_file.verify(account, written(tmp_path / "b", held), network)
    assert caught.value.code == "units_gap"
    other = written(tmp_path / "c", held, lambda one: replace(one, beacon=tuple(beacon_blocks.beacon_blocks(8)[0])))
    with pytest.raises(Refused, match="the beacon drew") as caught:
        units_file.verify(account, other, network)
    assert caught.value.code == "units_false"
    late = written(tmp_path / "d", held, lambda one: replace(one, beacon=tuple(parts[:3])))
    with pytest.raises(Refused, match="quorum") as caught:
        units_file.verify(account, late, network)
    assert caught.value.code == "beacon_false"


def test_a_receipt_without_the_claim_proves_nothing_of_its_units(tmp_path: Path) -> None:
    held, account = audited(GENESIS, None, court.Court().header())
    account.claims.clear()
    with pytest.raises(Refused, match="no claim of chunk 0 epoch 1"):
        units_file.verify(account, written(tmp_path / "a", held), GENESIS)


def test_a_dossier_is_the_same_in_a_file(tmp_path: Path) -> None:
    held, _ = audited(GENESIS, None, court.Court().header())
    with written(tmp_path / "a", held).open("rb") as stream:
        _, claim = dossier_file.frames(stream.read)
    assert isinstance(claim, OpenedClaim)
    assert dossier.decode(claim.dossier, NOBODY) == held.judge.dossiers.dossier_of(held.case)
