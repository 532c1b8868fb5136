"""specs/11-verification.md against the verifier."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

import specs
from protocol import dossier, dossier_file, trace, units, wire
from protocol.operations import Found, Inherited, Verdict
from protocol.proof import Leaf
from protocol.units import PPM, Digest, PeerId
from verifier import (
    auditor,
    audits,
    bench,
    case,
    challenge,
    charges,
    comparisons,
    concurrence,
    course,
    deadlines,
    dossiers,
    judge,
    no_shows,
    prefixes,
    quoting,
    recheck,
    replays,
    sampling,
    settling,
    unfolding,
    verdicts,
    views,
)
from verifier.settling import Finding, Grade

SPEC = specs.load("11-verification")
HOLDERS = (
    units, sampling, deadlines, challenge, settling, case, trace, auditor, no_shows, concurrence, verdicts, dossier,
    dossiers,
)  # fmt: skip
hashes = st.binary(min_size=32, max_size=32)


def test_constants_are_those_of_the_code() -> None:
    for module in HOLDERS:
        for name, value in SPEC.constants.items():
            if hasattr(module, name):
                assert (name, getattr(module, name)) == (name, value)
    named = {name for module in HOLDERS for name in dir(module)}
    assert set(SPEC.constants) <= named


def test_states_are_the_types() -> None:
    assert [row["state"] for row in SPEC.table("states")] == [state.__name__ for state in case.STATES]


def test_every_code_a_judge_can_give_is_explained() -> None:
    """Whatever the judge's modules decide is in the table, and all that is in the table stands in them."""
    source = "".join(
        Path(module.__file__ or "").read_text(encoding="utf-8")
        for module in (course, judge, audits, charges, comparisons, unfolding, quoting, bench, replays, case)
    )
    said = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', source))
    table = {row["code"] for row in SPEC.table("verdicts")}
    assert table - said == set()
    codes = set(re.findall(r'decide\(\s*case,\s*"\w+",\s*"(\w+)"', source))
    codes |= set(re.findall(r'give_up\(\s*case,\s*"(\w+)"', source))
    assert codes and codes <= table
    assert views.EXACT.t_ok == 1


def test_what_bears_out_a_code_is_the_code_s() -> None:
    rows = SPEC.table("what bears out a code")
    said = {row["code"]: (tuple(row["executions of"].split(", ")), tuple(row["finding"].split(", "))) for row in rows}
    assert said == dict(recheck.FINDINGS)
    assert set(said) <= {row["code"] for row in SPEC.table("verdicts")}


def test_frames_and_draws_are_those_of_units_files() -> None:
    item = dossier_file.OpenedClaim(3, 1)
    assert dossier_file.frame(item) == SPEC.functions["frame"](wire.encode(item))
    assert SPEC.functions["draw"](False, b"block", b"beacon") == b"block"
    assert SPEC.functions["draw"](True, b"block", b"beacon") == b"beacon"


@given(floor=st.integers(0, PPM), valid=st.integers(0, 10**9))
def test_share(floor: int, valid: int) -> None:
    assert sampling.audit_ppm(floor, valid) == SPEC.functions["audit_ppm"](floor, valid)


@given(beacon=hashes, escrow=hashes, chunk=st.integers(0, 4096), epoch=st.integers(1, 1000), ppm=st.integers(0, PPM))
def test_draw(beacon: bytes, escrow: bytes, chunk: int, epoch: int, ppm: int) -> None:
    said = SPEC.functions["is_drawn"](beacon, escrow, chunk, epoch, ppm)
    assert sampling.is_drawn(beacon, escrow, chunk, epoch, ppm) == said


@given(
    beacon=hashes,
    turn=st.integers(0, 4),
    stakes=st.dictionaries(hashes.map(PeerId), st.integers(0, 2 * sampling.AUDITOR_STAKE_CAP), max_size=6),
)
def test_auditor(beacon: bytes, turn: int, stakes: dict[PeerId, int]) -> None:
    place = (b"e" * 32, 1, 1)
    said = SPEC.functions["draw_auditor"](beacon, place, turn, stakes)
    assert sampling.draw_auditor(beacon, place, turn, stakes, frozenset()) == said


@given(
    signed=st.lists(st.integers(1, 20), max_size=5, unique=True).map(sorted),
    bad=st.frozensets(st.integers(0, 24), max_size=4),
)
def test_suspects(signed: list[int], bad: frozenset[int]) -> None:
    said = SPEC.functions["suspect"](signed, bad)
    entries = [Inherited(epoch, count, bytes(32), bytes(64)) for epoch, count in enumerate(signed, start=1)]
    found = prefixes.suspect(entries, bad)
    assert said == (None if found is None else (entries.index(found[0]), found[1]))


def test_comparison() -> None:
    compare = SPEC.functions["compare"]
    assert [compare("a", list(audits)) for audits in ("", "a", "b", "baa", "bb", "bcd")] == [
        None, "hash_equal", None, "hash_equal", "hash_differs", "not_reproducible",
    ]  # fmt: skip


@given(
    findings=st.lists(st.sampled_from(("same", "near", "X", "Y")), max_size=8),
    wanted=st.integers(1, 4),
    is_exact=st.booleans(),
)
def test_settlement(findings: list[str], wanted: int, is_exact: bool) -> None:
    grades: dict[str, Grade] = {"same": "same", "near": "near"}
    found = [
        Finding(PeerId(bytes([number]) * 32), Digest(bytes(32)), grades.get(item, "other"), item.encode())
        for number, item in enumerate(findings)
    ]
    settled = settling.settle(found, wanted, is_exact)
    assert (None if settled is None else settled.end) == SPEC.functions["settle"](findings, wanted, is_exact)


Said = tuple[Found, bytes, bool, str, int]

of_claims = st.tuples(
    st.sampled_from(get_args(Found)),
    st.sampled_from((b"a" * 32, b"b" * 32)),
    st.booleans(),
    st.sampled_from(("audit_failed", "audit_late", "not_sampled", "hash_equal", *sorted(concurrence.UNSHOWN))),
    st.sampled_from((0, 0, 1)),
)


@given(mine=of_claims, theirs=of_claims, changes=st.sets(st.integers(0, 4)))
def test_whose_verdict_a_judge_signs(mine: Said, theirs: Said, changes: set[int]) -> None:
    """Of two that differ in some of it."""
    some = [theirs if at in changes else mine for at in range(5)]
    other: Said = (some[0][0], some[1][1], some[2][2], some[3][3], some[4][4])
    verdicts = [
        Verdict(b"e" * 32, 0, 1, outcome, is_audited, auditor, output, auditor, code, blamed=blamed or UNSET)
        for auditor, (outcome, output, is_audited, code, blamed) in ((b"1" * 32, mine), (b"2" * 32, other))
    ]
    joins = SPEC.functions["joins"]
    assert concurrence.may_join(*verdicts) == joins(mine, other, 2, 4)
    assert not joins(mine, other, 1, 4)


@given(
    index=st.integers(0, 4096),
    sizes=st.tuples(st.integers(0, 2**28), st.integers(0, 2**28)),
    parts=st.tuples(hashes, hashes, hashes),
)
def test_leaves(index: int, sizes: tuple[int, int], parts: tuple[bytes, bytes, bytes]) -> None:
    leaf = Leaf(index, parts[0], sizes[0], parts[1], parts[2], sizes[1])
    said = SPEC.functions["leaf_bytes"](index, parts[0], sizes[0], parts[1], parts[2], sizes[1])
    assert trace.leaf_bytes(leaf) == said


@given(effect=st.floats())
def test_effects(effect: float) -> None:
    assert trace.encode_effect(effect) == SPEC.functions["encode_effect"](effect)


@given(
    beacon=hashes,
    sealed=hashes,
    root=hashes | st.just(b""),
    units=st.integers(1, 60),
    samples=st.integers(1, 32),
    touch=st.booleans(),
    data=st.data(),
)
def test_challenge(
    beacon: bytes, sealed: bytes, root: bytes, units: int, samples: int, touch: bool, data: st.DataObject
) -> None:
    place = (b"e" * 32, 7, 2)
    drawn = challenge.seed(place, sealed, root, beacon)
    assert drawn == SPEC.functions["seed"](place, sealed, root, beacon)
    effects = data.draw(st.lists(st.integers(0, 3), min_size=units, max_size=units))
    said = SPEC.functions["indices"](drawn, units, samples, effects, touch)
    assert challenge.indices(drawn, units, samples, effects, touch) == said
