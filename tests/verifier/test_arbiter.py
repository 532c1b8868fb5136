"""The last step of a game: replays are compared with both claims, within the tolerance where there is one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protocol import operations, wire
from protocol.completions import Fetched, FetchFailed, Scored
from protocol.effects import Compute, Effect, Fetch, Score
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditReveal
from protocol.proof import Leaf, Results, Tolerance, UnitResult
from protocol.trace import leaf_bytes
from protocol.units import PPM, Digest, Micros, PeerId
from tests.verifier.test_leaf_question import BEFORE, FACTS, MINE
from tests.verifier.test_panel import PEERS, PLACE, REQUEST, SALT
from verifier.arbiter import STEP_TIME, Arbiter, Seat
from verifier.game import Dispute
from verifier.summons import Summons
from verifier.views import Facts

NOW = Micros(10**15)
GAME = Digest(b"G" * 32)
THEIRS = replace(MINE, state=b"t" * 32)
RIGHT = UnitResult(3, BEFORE.input, MINE.state, 10, BEFORE.aux, 3)


def facts(**changes: object) -> Facts:
    return Facts(**({name: getattr(FACTS, name) for name in Facts.__slots__} | changes))


class Trial:
    """An arbiter, and what it decided."""

    def __init__(self, members: int = 3, changes: dict[str, object] | None = None) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.decided: list[tuple[int | None, str]] = []
        self.arbiter = Arbiter(self._decide, lambda digest: self.blobs[digest])
        self.members = PEERS[:members]
        self.seat = Seat(
            REQUEST,
            facts(**(changes or {})),
            Digest(b"o" * 32),
            (PEERS[10], PEERS[11]),
            Summons((*self.members,), (), len(self.members)),
        )

    def _decide(self, game: Digest, loser: int | None, code: str, now: Micros) -> list[Effect]:
        assert game == GAME
        self.decided.append((loser, code))
        return []

    def begin(self, one: Leaf = MINE, other: Leaf = THEIRS, agreed: Leaf = BEFORE) -> list[Effect]:
        dispute = Dispute(one.index, leaf_bytes(agreed), (leaf_bytes(one), leaf_bytes(other)))
        return self.arbiter.begin(GAME, dispute, self.seat, NOW)

    def answers(self, *outputs: Digest | tuple[Digest, str]) -> list[Effect]:
        """Everybody seals, then opens."""
        said = [item if isinstance(item, tuple) else (item, "ok") for item in outputs]
        for peer, (output, _) in zip(self.members, said, strict=False):
            sealed = operations.seal(peer, SALT, output)
            self.arbiter.committed(peer, AuditCommit(*PLACE, sealed=sealed), NOW)
        effects: list[Effect] = []
        for peer, (output, reason) in zip(self.members, said, strict=False):
            opened = AuditReveal(*PLACE, output=output, salt=SALT, reason=reason)
            effects += self.arbiter.revealed(peer, opened, NOW)
        return effects

    def results(self, result: UnitResult) -> Digest:
        data = wire.encode(Results((result,), ZERO_DIGEST))
        self.blobs[wire.digest(data)] = data
        return wire.digest(data)

    def fetch(self, digest: Digest) -> list[Effect]:
        return self.arbiter.fetched(Fetched(digest, len(self.blobs[digest])), NOW)


def scores(effects: list[Effect]) -> list[Score]:
    return [effect.work for effect in effects if isinstance(effect, Compute) and isinstance(effect.work, Score)]


def test_bitwise_replays_refute_a_claim() -> None:
    bench = Trial()
    bench.begin()
    digest = bench.results(RIGHT)
    effects = bench.answers(digest, digest, digest)
    fetches = [effect.work for effect in effects if isinstance(effect, Compute)]
    assert [work.digest for work in fetches if isinstance(work, Fetch)] == [digest], "equal results are one blob"
    bench.fetch(digest)
    assert bench.decided == [(1, "wrong_step")]
    assert not bench.arbiter.steps


def test_a_minority_refutes_nothing() -> None:
    bench = Trial()
    bench.begin()
    right, wrong = bench.results(RIGHT), bench.results(replace(RIGHT, state=THEIRS.state))
    bench.answers(right, wrong, right)
    bench.fetch(wrong)
    assert bench.decided == []
    bench.fetch(right)
    assert bench.decided == [(1, "wrong_step")]


def test_both_wrong_both_lose() -> None:
    bench = Trial(1)
    bench.begin()
    digest = bench.results(replace(RIGHT, state=b"x" * 32))
    bench.answers(digest)
    bench.fetch(digest)
    assert bench.decided == [(None, "wrong_step")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("inputs: gone", (0, "withheld")), ("exit: 1", (None, "wrong_step")), ("timeout", (1, "not_replayed"))],
)
def test_replays_that_fail(reason: str, expected: tuple[int | None, str]) -> None:
    bench = Trial()
    bench.begin()
    bench.answers(*[(Digest(bytes(32)), reason)] * 3)
    assert bench.decided == [expected]


def test_results_that_cannot_be_had_or_read_are_no_vote() -> None:
    bench = Trial()
    bench.begin()
    right, junk, gone = bench.results(RIGHT), wire.digest(b"junk"), Digest(b"?" * 32)
    bench.blobs[junk] = b"junk"
    bench.answers(right, junk, gone)
    bench.fetch(right)
    bench.fetch(junk)
    assert bench.decided == []
    bench.arbiter.fetch_failed(FetchFailed(gone, "gone"), NOW)
    assert bench.decided == [(1, "not_replayed")], "one replay of three is not enough"


def test_silence_ends_by_its_deadline() -> None:
    bench = Trial()
    bench.begin()
    assert bench.arbiter.tick(Micros(NOW + 1)) == []
    assert bench.arbiter.tick(Micros(NOW + 10**7)), "asked again"
    for _ in range(3):
        bench.arbiter.tick(Micros(NOW + 3 * STEP_TIME))
    assert bench.decided == [(1, "not_replayed")]


# ── D3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
D3: dict[str, object] = {"numeric": "D3", "kind": "training", "tolerance": Tolerance(1000, 10_000)}


def score_all(bench: Trial, effects: list[Effect], fine: dict[tuple[PeerId, int], bool]) -> None:
    for work in scores(effects):
        member, side = work.auditor, (bench.seat.speakers.index(work.provider))
        value = PPM if fine[member, side] else 0
        bench.arbiter.scored(Scored(work.task, value, "c", ZERO_DIGEST), NOW)


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (3, 0, (1, "wrong_step")),
        (0, 3, (0, "wrong_step")),
        (3, 3, (1, "within_tolerance")),
        (0, 0, (None, "wrong_step")),
        (2, 1, (1, "wrong_step")),
    ],
)
def test_within_the_tolerance(mine: int, theirs: int, expected: tuple[int | None, str]) -> None:
    """`mine`, `theirs`: how many of three members find the claim within the tolerance."""
    bench = Trial(changes=D3)
    bench.begin()
    digests = [bench.results(replace(RIGHT, state=bytes([n]) * 32)) for n in (1, 2, 3)]
    bench.answers(*digests)
    asked = [effect for digest in digests for effect in bench.fetch(digest)]
    works = scores(asked)
    assert len(works) == 6
    assert {(work.items[0].start, work.items[0].index) for work in works} == {(BEFORE.state, 3)}
    assert {work.items[0].claimed for work in works} == {MINE.state, THEIRS.state}
    fine = {(peer, 0): n < mine for n, peer in enumerate(bench.members)}
    fine |= {(peer, 1): n < theirs for n, peer in enumerate(bench.members)}
    score_all(bench, asked, fine)
    assert bench.decided == [expected]
