"""specs/37-verification-game.md against the verifier."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specs
from node import drand
from protocol import units
from protocol.units import Digest, PeerId
from tests.verifier.court import job
from tests.verifier.duel import history
from tests.verifier.test_blind_panels import trial
from tests.verifier.test_game import play
from verifier import (
    arbiter,
    beacon,
    chess_clock,
    court,
    docket,
    game,
    leaf_question,
    operators,
    panel,
    referee,
    rehearing,
    sampling,
    summons,
    tournament,
    witness,
)

SPEC = specs.load("37-verification-game")
MODULES = (
    *(units, drand, arbiter, beacon, chess_clock, court, game, summons, operators, panel, referee, rehearing),
    *(tournament, witness),
)
votes = st.lists(st.sampled_from((bytes(32), b"a" * 32, b"b" * 32)), max_size=7)


def test_constants_are_those_of_the_code() -> None:
    for name, value in SPEC.constants.items():
        found = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        assert found and set(found) == {value}, name


@given(found=votes, more=st.integers(0, 3))
def test_majority(found: list[bytes], more: int) -> None:
    by_peer = {PeerId(bytes([n]) * 32): Digest(vote) for n, vote in enumerate(found)}
    said = SPEC.functions["majority"](found, len(found) + more)
    assert panel.majority_of(by_peer, len(found) + more) == said


@given(tickets=st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=5, unique=True), data=st.data())
def test_the_order(tickets: list[bytes], data: st.DataObject) -> None:
    place = (b"e" * 32, 0, 1)
    stakes = {PeerId(one): data.draw(st.integers(1, 2 * sampling.AUDITOR_STAKE_CAP)) for one in tickets}
    called = summons.order(b"s" * 32, place, stakes, frozenset())
    name = b"shoal/1\0panel\0" + b"s" * 32 + b"%s%d/%d\0" % place
    scarce = [summons._scarcity(hashlib.sha256(name + peer).digest()) for peer in called]
    cap = sampling.AUDITOR_STAKE_CAP
    ranks = [SPEC.functions["rank"](one, stakes[peer], cap) for one, peer in zip(scarce, called, strict=True)]
    assert all(int(str(one)) <= int(str(next_)) for one, next_ in pairwise(ranks))


@pytest.mark.parametrize("is_exact", [True, False])
@pytest.mark.parametrize("trace", [b"", b"t" * 32])
@pytest.mark.parametrize("inherited", [0, 4])
@pytest.mark.parametrize("unit", [None, 2, 4])
def test_refuted(is_exact: bool, trace: bytes, inherited: int, unit: int | None) -> None:
    about, facts = trial(job())
    about.facts = replace(facts, numeric="D0" if is_exact else "D3")
    about.trace, about.inherited, about.unit = trace, inherited, unit
    assert about.found(False) == SPEC.functions["refuted"](is_exact, bool(trace), inherited, unit)


def test_instances() -> None:
    seats = [
        int(number) for row in SPEC.table("instances") for number in re.findall(r"panel of (\d)", row["who decides"])
    ]
    assert tuple(seats) == panel.SEATS


@given(count=st.integers(1, 2**22), parts=st.sampled_from((2, 4, 8, 16, 32)))
def test_rounds(count: int, parts: int) -> None:
    assert game.rounds(count, parts) == SPEC.functions["rounds"](count, parts)


@given(count=st.integers(2, 100), at=st.integers(0, 10**6))
def test_interval(count: int, at: int) -> None:
    one, other = history(count, 1), history(count, 1, at % count)
    played, _ = play(one, other, 8)
    assert played.dispute is not None
    assert SPEC.functions["interval"](one, other) == (played.dispute.index - 1, played.dispute.index)


@pytest.mark.parametrize("row", SPEC.table("the game"), ids=lambda row: row["parts"])
def test_the_measured_table_grows_as_it_must(row: dict[str, str]) -> None:
    """At 4096 leaves the same game is played for real: fewer rounds by the difference of heights, fewer bytes."""
    parts = int(row["parts"])
    assert game.rounds(2**20, parts) == int(row["rounds"])
    assert int(row["messages"]) == 4 * (int(row["rounds"]) + 1)
    played, size = play(history(4096, 1), history(4096, 1, 3000), parts)
    assert played.round < int(row["rounds"]) or parts == 32
    assert size < int(row["bytes"])


@given(terms=st.integers(0, 2**25), roundoff=st.sampled_from((operators.FP32_ROUNDOFF, operators.FP64_ROUNDOFF)))
def test_gamma(terms: int, roundoff: float) -> None:
    assert operators.gamma(terms, roundoff) == SPEC.functions["gamma"](terms, roundoff)


@given(claims=st.integers(1, 10**6), bond=st.integers(1, 2**62))
def test_tournament(claims: int, bond: int) -> None:
    assert tournament.games_max(claims) == SPEC.functions["games_max"](claims)
    assert tournament.divide(bond) == SPEC.functions["divide"](bond)


def test_every_code_is_explained() -> None:
    said = {row["code"] for title, rows in SPEC.tables for row in rows if title == "votes" and "code" in row}
    source = "".join(
        Path(module.__file__ or "").read_text(encoding="utf-8")
        for module in (court, docket, arbiter, leaf_question, referee, operators, rehearing)
    )
    given_codes = set(re.findall(r'_rule\(trial, \w+, "(\w+)"', source)) | {"hash_equal", "hash_differs", "bad_descent"}
    given_codes |= set(re.findall(r'Settled\([^"]*"(\w+)"', source)) | set(re.findall(r'_end\([^"\n]*"(\w+)"', source))
    given_codes |= set(re.findall(r'outcome = \(\w+, "(\w+)"\)', source))
    given_codes |= set(re.findall(r'"(wrong_step|within_tolerance|not_replayed)"', source))
    assert given_codes == said - {"a comparison's own code"}
