"""A panel about a D3 claim: units that the appeal's beacon chose, replayed by every member and compared with the claim.

A whole run is not comparable within a tolerance, single units are. The provider opens the leaves before these units;
the members replay and seal; then it opens the leaves behind them. Whether the output is made of the last state is asked
of the same members afterwards (`verifier.court`). Spec: specs/37-verification-game.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from protocol import merkle, wire
from protocol.completions import Scored
from protocol.court_messages import PointsOpened, PointsRequest
from protocol.effects import Compute, Effect, Fetch, Score, ScoreItem, Send, Wake
from protocol.errors import RemoteViolation
from protocol.messages import AuditCommit, AuditReveal
from protocol.proof import Leaf, Results
from protocol.units import KIB, MINUTE, Digest, Micros, PeerId
from verifier import challenge, openings
from verifier.leaf_question import read_leaf
from verifier.panel import Panel
from verifier.score import SECOND as SCORE_MIN
from verifier.views import Facts

POINTS_TIMEOUT: Final = Micros(1 * MINUTE)
"""Microseconds for the provider to open leaves of its trace; it keeps them ready."""

READ_TIMEOUT: Final = Micros(10 * MINUTE)
"""Microseconds to fetch and compare the states of one panel: 7 times 32 of 256 MiB, or what there is of it."""

RESULTS_BYTES_MAX: Final = 64 * KIB
"""Bytes of an auditor's encoded results."""

_results: Final = wire.decoder(Results)


@dataclass(slots=True)
class Rehearing:
    """One panel at work. `outcome`: whether the claim holds (None: not found out) and the code, once that is known."""

    game: Digest
    """Names it in messages."""
    provider: PeerId
    root: bytes
    facts: Facts
    panel: Panel
    limit: Micros
    """Microseconds that the members get."""
    indices: tuple[int, ...]
    until: Micros
    leaves: dict[int, Leaf] = field(default_factory=dict)
    results: dict[PeerId, Results] = field(default_factory=dict)
    fine: dict[PeerId, bool] = field(default_factory=dict)
    """Members whose replay was compared -> within the tolerance."""
    codes: dict[PeerId, str] = field(default_factory=dict)
    is_reading: bool = False
    is_scoring: bool = False
    outcome: tuple[bool | None, str] | None = None

    @classmethod
    def of(cls, seed: bytes, provider: PeerId, root: bytes, facts: Facts, panel: Panel, now: Micros) -> Rehearing:
        """`panel` has its deadline set as if it began now."""
        touch = challenge.may_touch(facts.kind, facts.numeric)
        indices = challenge.indices(seed, facts.units, facts.samples, [0] * facts.units, touch)
        limit = Micros(panel.until - now)
        until = Micros(now + POINTS_TIMEOUT)
        return cls(Digest(seed), provider, root, facts, panel, limit, indices, until)

    def ask(self) -> list[Effect]:
        """What is still owed, from whomever."""
        if self.wanted:
            asked = sorted(self.wanted)
            pairs = [tuple(asked[at : at + 2]) for at in range(0, len(asked), 2)]
            return [Send(self.provider, PointsRequest(self.game, self.root, pair)) for pair in pairs]
        return [] if self.is_reading else self.panel.ask()

    @property
    def wanted(self) -> set[int]:
        """Leaves that the provider owes: those before the units, and when all have opened those behind and the last."""
        behind = {index + 1 for index in self.indices}
        if self.facts.kind not in challenge.INDEPENDENT:
            behind.add(self.facts.units)
        needed = set(self.indices) | (behind if self.is_reading else set())
        return needed - self.leaves.keys()

    @property
    def last(self) -> Leaf | None:
        """The state that the output files are made of, where they are made of one."""
        return None if self.facts.kind in challenge.INDEPENDENT else self.leaves.get(self.facts.units)

    def points(self, sender: PeerId, message: PointsOpened, now: Micros) -> list[Effect]:
        """Leaves, from anybody. Raises `RemoteViolation` (`bad_path`)."""
        owed, count = self.wanted, self.facts.units + 2
        for point in message.points:
            if not merkle.verify(self.root, point.leaf, point.index, count, point.path):
                raise RemoteViolation(sender, f"leaf {point.index} is not under this root", code="bad_path")
            leaf = read_leaf(point.leaf)
            if leaf is None or leaf.index != point.index:
                self.outcome = (False, "bad_leaf")
            elif point.index in owed:
                self.leaves[point.index] = leaf
        if self.outcome is not None or self.wanted or not owed:
            return []
        return self._score() if self.is_reading else self._begin(now)

    def _begin(self, now: Micros) -> list[Effect]:
        """All starts are known: the members may replay."""
        goes_on = challenge.goes_on(self.facts.kind, self.facts.numeric)
        shown = openings.blind(self.leaves, self.indices, goes_on)
        self.panel.begin(structs.replace(self.panel.request, units=shown, seed=self.game), now, self.limit)
        self.until = self.panel.until
        return [*self.panel.ask(), Wake(self.until)]

    def committed(self, sender: PeerId, message: AuditCommit, now: Micros) -> list[Effect]:
        effects = self.panel.committed(sender, message, now)
        self.until = self.panel.until if not self.is_reading and not self.wanted else self.until
        return effects

    def revealed(self, sender: PeerId, message: AuditReveal, now: Micros) -> list[Effect]:
        return self._read(now) if self.panel.revealed(sender, message) else []

    def _read(self, now: Micros) -> list[Effect]:
        """All have opened: fetch what they got, and ask for what was claimed."""
        self.panel.close()
        self.panel.votes = {peer: vote for peer, vote in self.panel.votes.items() if any(vote)}
        self.is_reading = True
        self.until = Micros(now + READ_TIMEOUT)
        enough = self.panel.enough
        if len(self.panel.blaming) >= enough:
            self.outcome = (False, "withheld")
        elif len(self.panel.broken) >= enough:
            self.outcome = (False, "unit_unreplayable")
        elif len(self.panel.votes) < enough:
            self.outcome = (None, "no_majority")
        if self.outcome is not None:
            return []
        fetches = {vote: peer for peer, vote in self.panel.votes.items()}
        found: list[Effect] = [Compute(Fetch(vote, RESULTS_BYTES_MAX, (peer,))) for vote, peer in fetches.items()]
        return [*found, *self.ask(), Wake(self.until)]

    def fetched(self, digest: Digest, read: Callable[[Digest], bytes]) -> list[Effect]:
        """Some members' results are here."""
        members = [peer for peer, vote in self.panel.votes.items() if vote == digest]
        if not self.is_reading or not members or members[0] in self.results:
            return []
        try:
            results = wire.decode(read(digest), _results, members[0], RESULTS_BYTES_MAX)
        except RemoteViolation:
            return self.gone(digest)
        if tuple(unit.index for unit in results.units) != self.indices:
            return self.gone(digest)
        self.results |= dict.fromkeys(members, results)
        return self._score()

    def gone(self, digest: Digest) -> list[Effect]:
        """Nobody delivers these results, or they are none: no vote."""
        if not self.is_reading or digest not in self.panel.votes.values():
            return []
        self.panel.votes = {peer: vote for peer, vote in self.panel.votes.items() if vote != digest}
        return self._score()

    def _score(self) -> list[Effect]:
        """Everything is here: compare each member's units with the claim."""
        if self.wanted or set(self.results) != set(self.panel.votes) or self.is_scoring:
            return []
        self.is_scoring = True
        self._count()
        return [Compute(self._work(member, results)) for member, results in sorted(self.results.items())]

    def _work(self, member: PeerId, results: Results) -> Score:
        items = tuple(
            ScoreItem(
                unit.index,
                Digest(self.leaves[unit.index].state),
                Digest(self.leaves[unit.index + 1].state),
                Digest(unit.state),
                Digest(self.leaves[unit.index].aux),
                Digest(unit.aux),
            )
            for unit in results.units
        )
        return Score(self._task(member), self.facts.kind, self.facts.tolerance, items, self.provider, member)

    def scored(self, message: Scored) -> list[Effect]:
        """A member's units were compared."""
        for member in self.results:
            if self.is_scoring and message.task == self._task(member):
                if message.fault == "auditor":
                    self.panel.votes.pop(member, None)
                else:
                    self.fine[member] = message.score >= SCORE_MIN and not message.fault
                    self.codes[member] = message.code
                self._count()
        return []

    def _count(self) -> None:
        """Every member that can be compared was."""
        if set(self.fine) >= set(self.panel.votes):
            self._conclude()

    def late(self, now: Micros) -> list[Effect]:
        """The deadline of what is waited for has passed."""
        if self.wanted:
            self.outcome = (False, "withheld")
        elif self.is_reading:
            self._conclude()
        else:
            following = self.panel.late(now)
            if following is None:
                return self._read(now)
            self.until = self.panel.until
            return following
        return []

    def _conclude(self) -> None:
        enough = self.panel.enough
        good = sum(self.fine.values())
        if good >= enough:
            self.outcome = (True, "within_tolerance")
        elif len(self.fine) - good >= enough:
            said = Counter(self.codes[member] for member, is_fine in self.fine.items() if not is_fine)
            code = min(said, key=lambda one: (-said[one], one))  # Every court signs the same, whoever came first.
            self.outcome = (False, code)
        else:
            self.outcome = (None, "no_majority")

    def _task(self, member: PeerId) -> str:
        return f"{self.game.hex()}-{member.hex()[:16]}"
