"""A panel about a D3 claim, step by step: what is asked of whom, and every way in which somebody fails."""

from __future__ import annotations

import pytest

from protocol import operations, wire
from protocol.completions import Scored
from protocol.court_messages import Point, PointsOpened, PointsRequest
from protocol.effects import Compute, Effect, Fetch, Score, Send
from protocol.errors import RemoteViolation
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditCommit, AuditRequest, AuditReveal
from protocol.proof import Results, Tolerance, UnitResult
from protocol.trace import TraceTree
from protocol.units import PPM, Digest, Micros, PeerId
from tests.verifier.appeals import TRUTH, UNITS, execution
from tests.verifier.test_arbiter import facts
from tests.verifier.test_panel import PEERS, PLACE, REQUEST, SALT
from verifier.advocate import Held
from verifier.panel import Panel
from verifier.rehearing import POINTS_TIMEOUT, READ_TIMEOUT, Rehearing

NOW = Micros(10**15)
PROVIDER = PEERS[20]
CLAIM = Held.of(TRUTH)
ZERO = Digest(bytes(32))


class Sitting:
    """A rehearing of four units by three members."""

    def __init__(self) -> None:
        known = facts(numeric="D3", kind="training", tolerance=Tolerance(1000, 10_000), units=UNITS, samples=4)
        panel = Panel(REQUEST, tuple(PEERS[:3]), Micros(NOW + 1000))
        self.it = Rehearing.of(b"s" * 32, PROVIDER, CLAIM.tree.root, known, panel, NOW)
        self.blobs: dict[bytes, bytes] = {}

    def open(self, asked: list[Effect]) -> list[Effect]:
        """The provider answers what it is asked."""
        effects: list[Effect] = []
        for effect in asked:
            if isinstance(effect, Send) and isinstance(effect.message, PointsRequest):
                assert effect.peer == PROVIDER
                points = tuple(CLAIM.point(index) for index in effect.message.indices)
                opened = PointsOpened(effect.message.game, effect.message.root, points)
                effects += self.it.points(PROVIDER, opened, NOW)
        return effects

    def result(self, peer: PeerId, indices: tuple[int, ...] | None = None) -> Digest:
        units = [UnitResult(index, ZERO, peer, 1, ZERO, 1) for index in indices or self.it.indices]
        data = wire.encode(Results(tuple(units), ZERO_DIGEST))
        self.blobs[wire.digest(data)] = data
        return wire.digest(data)

    def hear(self, outputs: list[Digest], reasons: tuple[str, str, str] = ("ok", "ok", "ok")) -> list[Effect]:
        for peer, output in zip(PEERS, outputs, strict=False):
            self.it.committed(peer, AuditCommit(*PLACE, sealed=operations.seal(peer, SALT, output)), NOW)
        effects: list[Effect] = []
        for peer, output, reason in zip(PEERS, outputs, reasons, strict=False):
            effects += self.it.revealed(peer, AuditReveal(*PLACE, output=output, salt=SALT, reason=reason), NOW)
        return effects

    def to_scores(self) -> list[Score]:
        """All the way to the comparisons."""
        self.open(self.it.ask())
        found = self.hear([self.result(peer) for peer in PEERS[:3]])
        digests = [
            effect.work.digest for effect in found if isinstance(effect, Compute) and isinstance(effect.work, Fetch)
        ]
        effects = self.open(found)
        for digest in digests:
            effects += self.it.fetched(digest, self.blobs.__getitem__)
        return [effect.work for effect in effects if isinstance(effect, Compute) and isinstance(effect.work, Score)]


def test_starts_first_and_ends_only_when_all_have_opened() -> None:
    sitting = Sitting()
    first = sitting.it.ask()
    asked = [index for effect in first if isinstance(effect, Send) for index in effect.message.indices]  # type: ignore[union-attr]
    assert tuple(asked) == sitting.it.indices
    begun = sitting.open(first)
    requests = [effect.message for effect in begun if isinstance(effect, Send)]
    assert len(requests) == 3
    for request in requests:
        assert isinstance(request, AuditRequest)
        assert [leaf.index for leaf in request.units] == list(sitting.it.indices)
        assert {leaf.aux for leaf in request.units} == {bytes(32)}
    assert sitting.it.wanted == set(), "nothing of what was claimed is asked for while members compute"
    sitting.hear([sitting.result(peer) for peer in PEERS[:3]])
    assert sitting.it.wanted == {index + 1 for index in sitting.it.indices} | {UNITS}


def test_each_member_is_compared_with_the_claim() -> None:
    sitting = Sitting()
    works = sitting.to_scores()
    assert [work.auditor for work in works] == sorted(PEERS[:3])
    for work in works:
        assert [item.index for item in work.items] == list(sitting.it.indices)
        assert [item.claimed for item in work.items] == [TRUTH.leaves[i + 1].state for i in sitting.it.indices]
        assert {bytes(item.replayed) for item in work.items} == {bytes(work.auditor)}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("yyy", (True, "within_tolerance")),
        ("yyn", (True, "within_tolerance")),
        ("ynn", (False, "code 1")),
        ("nnn", (False, "code 0")),
        ("yna", (None, "no_majority")),
        ("yya", (True, "within_tolerance")),
        ("ppy", (False, "code 0")),
    ],
)
def test_the_majority_of_members(said: str, outcome: tuple[bool | None, str]) -> None:
    """y: within, n: not, a: the auditor's blobs are bad, p: the provider's are."""
    sitting = Sitting()
    for number, work in reversed(list(enumerate(sitting.to_scores()))):
        letter = said[number]
        fault = {"a": "auditor", "p": "provider"}.get(letter, "")
        done = Scored(work.task, PPM if letter in "yp" else 0, f"code {number}", ZERO_DIGEST, fault)  # type: ignore[arg-type]
        sitting.it.scored(done)
    assert sitting.it.outcome == outcome


@pytest.mark.parametrize(
    ("reasons", "outcome"),
    [
        (("inputs: gone", "inputs: gone", "ok"), (False, "withheld")),
        (("exit: 1", "exit: 1", "ok"), (False, "unit_unreplayable")),
        (("timeout", "memory", "ok"), (None, "no_majority")),
    ],
)
def test_members_that_fail(reasons: tuple[str, str, str], outcome: tuple[bool | None, str]) -> None:
    sitting = Sitting()
    sitting.open(sitting.it.ask())
    outputs = [sitting.result(peer) if reason == "ok" else ZERO for peer, reason in zip(PEERS, reasons, strict=False)]
    sitting.hear(outputs, reasons)
    assert sitting.it.outcome == outcome


def test_deadlines() -> None:
    silent = Sitting()
    silent.it.late(Micros(NOW + POINTS_TIMEOUT))
    assert silent.it.outcome == (False, "withheld")
    closed = Sitting()
    closed.open(closed.it.ask())
    closed.hear([closed.result(peer) for peer in PEERS[:3]])
    closed.it.late(Micros(NOW + READ_TIMEOUT))
    assert closed.it.outcome == (False, "withheld"), "the ends were never opened"
    slow = Sitting()
    slow.open(slow.it.ask())
    slow.it.late(slow.it.until)
    assert slow.it.outcome == (None, "no_majority"), "no member has sealed"


def test_results_of_other_units_or_none_at_all_are_no_vote() -> None:
    sitting = Sitting()
    sitting.open(sitting.it.ask())
    other = sitting.result(PEERS[0], (0, 1))
    junk = wire.digest(b"junk")
    sitting.blobs[junk] = b"junk"
    sitting.open(sitting.hear([other, junk, sitting.result(PEERS[2])]))
    for digest in (other, junk):
        assert sitting.it.fetched(digest, sitting.blobs.__getitem__) == []
    assert set(sitting.it.panel.votes) == {PEERS[2]}


def test_leaves_of_another_trace_are_the_senders_fault() -> None:
    sitting = Sitting()
    other = TraceTree(execution(0))
    index = sitting.it.indices[0]
    opened = other.open(index)
    point = Point(index, Held.of(other.trace).leaves[index], opened.path)
    with pytest.raises(RemoteViolation) as caught:
        sitting.it.points(PEERS[5], PointsOpened(sitting.it.game, sitting.it.root, (point,)), NOW)
    assert caught.value.code == "bad_path"
    assert sitting.it.outcome is None
