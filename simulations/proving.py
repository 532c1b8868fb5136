"""Units on simulated hosts: what a run of them comes to, how long it takes, and comparisons for judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol.completions import RunDone, Scored
from protocol.effects import Run, Score
from protocol.errors import Unavailable
from protocol.jobspec import ZERO_DIGEST
from protocol.prefix import root_of
from protocol.snapshots import Manifest
from protocol.units import Digest
from simulations import chance, units
from simulations.library import Library
from simulations.units import EXACT, Conduct, Execution, FirstPart

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer

NOISE: Final = 200_000
"""Parts per trillion by which an honest host's floats are off at most: a fifth of what the tolerance allows."""

CHECK_SHARE: Final = 100
"""A check takes this part of the chunk's own time: certificates are worth their name."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a host found, and after how long."""

    content: bytes
    """Stands for the output: same bytes, same digest."""
    time: int
    """ns."""
    made: Execution | str = ""
    """Of units, or of a check: what came out, or why nothing did."""


class Proving:
    """For all hosts of a world."""

    def __init__(self, seed: int, library: Library, output_of: dict[bytes, tuple[bytes, int]]) -> None:
        """`output_of`: output -> (what honest work would have put out, who made it); filled here too."""
        self._seed = seed
        self._library = library
        self._output_of = output_of
        self.cheated: dict[bytes, int] = {}
        """Trace root's blob -> units that were not computed."""
        self.parts: dict[Digest, FirstPart] = {}
        """First shard of a snapshot of units -> what it holds."""

    def is_unit_work(self, run: Run) -> bool:
        """Whether a run is of units, or of a check."""
        is_part = bool(run.units) or run.result != ZERO_DIGEST or run.last is not None
        return is_part or run.spec.units_of(run.chunk) > 0

    def result(
        self, peer: SimPeer, run: Run, time: int, is_flipped: bool, now: int, before: FirstPart | None = None
    ) -> Result:
        """What comes of a run that would take `time` ns if it were the whole chunk. `before`: what it goes on from."""
        if run.result != ZERO_DIGEST:
            right = self._output_of.get(run.result, (b"", 0))[0] == run.result
            return Result(b"", max(1, time // CHECK_SHARE), Execution(run.result, 0) if right else "exit")
        if run.last is not None:
            return Result(b"", max(1, time // CHECK_SHARE), self._of_last(peer, run))
        conduct = self._conduct(peer, run, is_flipped, now)
        if not run.units:
            made = units.execute(run, conduct, before)
            done = run.spec.units - (0 if conduct.waits else made.skipped)
            return Result(b"", max(1, time * done // run.spec.units), made)
        try:
            found: Execution | str = units.replay(run, self._reader(peer), conduct)
        except LookupError:
            found = "inputs"
        return Result(b"", max(1, time * len(run.units) // run.spec.units), found)

    def _of_last(self, peer: SimPeer, run: Run) -> Execution | str:
        try:
            return units.finish(run, self._reader(peer))
        except LookupError:
            return "inputs"

    def done(self, peer: SimPeer, run: Run, made: Execution | str, seconds: float, begun: int = 0) -> RunDone:
        """Keep what came out, and say so. `begun`: the unit at which it went on from a snapshot."""
        if isinstance(made, str):
            return RunDone(run.task, made, 1, ZERO_DIGEST, 0, seconds, made)
        for content in made.blobs.values():
            self._library.put(peer.index, content)
        if made.trace != ZERO_DIGEST:
            self.cheated[made.trace] = made.skipped
            honest = made.output if not made.bad and run.spec.numeric == "D3" else units.execute(run).output
            self._output_of[made.output] = (honest, peer.index)
        return RunDone(run.task, "ok", 0, made.output, made.size, seconds, "", made.trace, begun=begun)

    def inherited(self, manifest: Manifest) -> FirstPart | None:
        """What a snapshot that was brought here holds; None where those who made it did not sign for exactly that.
        Its twin is `node/proving/resuming.py`."""
        part = self.parts.get(Digest(manifest.packs[0].shards[0]))
        words = manifest.inherited or ()
        if part is None or not words or not part.trace.units == manifest.step == words[-1].units:
            return None
        is_theirs = all(item.units <= manifest.step and root_of(part.trace, item.units) == item.root for item in words)
        return part if is_theirs else None

    def compare(self, peer: SimPeer, score: Score) -> Scored:
        """What the node's child process would say, over blobs that are here."""
        return units.compare(score, self._reader(peer))

    def _conduct(self, peer: SimPeer, run: Run, is_flipped: bool, now: int) -> Conduct:
        """Exact in bitwise classes, with this host's own noise in D3; a silent error spoils one unit."""
        flipped = chance.stream(self._seed, "flip", peer.name, run.task).randrange(run.spec.units) if is_flipped else -1
        noise = self._noise(peer) if run.spec.numeric == "D3" else EXACT.err
        honest = Conduct(skips=lambda index: index == flipped, err=noise)
        return peer.strategy.units(peer, run, honest, now) if now >= peer.strategy.at else honest

    def _noise(self, peer: SimPeer) -> units.Err:
        return lambda index: chance.stream(self._seed, "noise", peer.name, index).randrange(-NOISE, NOISE + 1)

    def _reader(self, peer: SimPeer) -> units.Read:
        def read(digest: Digest) -> bytes:
            try:
                return self._library.read(peer.index, digest)
            except Unavailable:
                raise LookupError(digest) from None

        return read
