"""Unit programs in the simulator: traces, replays and comparisons over states of 40 bytes that stand for large ones.

A state says from which state and unit it was computed, and how far the arithmetic that made it is from exact. So a
skipped unit, a bent trajectory and an honest machine's own noise look to the verifier's machines as they would outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import Struct

from protocol import wire
from protocol.completions import Scored, UnitError
from protocol.effects import Run, Score
from protocol.jobspec import ZERO_DIGEST, Manifest, OutputFile
from protocol.prefix import first_units
from protocol.proof import PPT, Leaf, Results, Trace, UnitResult
from protocol.trace import encode_effect
from protocol.units import PPM, Digest, PeerId
from verifier import score as scores
from verifier.course import LAST_STATE
from verifier.drift import SKETCH

WRONG: Final = 1.0
"""Error of a state that was not computed from the one before it: nothing of the two is alike."""

Read = Callable[[Digest], bytes]
"""The content of a blob that is here; raises LookupError for others."""

Err = Callable[[int], int]
"""Unit -> parts per trillion by which its result is off."""


class State(Struct, frozen=True):
    """What a unit leaves behind."""

    base: bytes
    """32 bytes: the digest of the state before, and of the unit."""
    err: int
    """Parts per trillion by which this machine's arithmetic missed the exact result of the unit."""


_state_decoder: Final = wire.decoder(State)


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a host computes units. The default is exact and honest."""

    skips: Callable[[int], bool] = lambda index: False
    """Whether it leaves a unit out and invents the state behind it."""
    err: Err = lambda index: 0
    """Parts per trillion that its result of a unit is off: the noise of its floats, or cheaper arithmetic."""
    feeds: Callable[[int], bool] = lambda index: False
    """Whether a unit reads other data than the job's schedule says."""
    effect: Callable[[int], float] = lambda index: 1.0
    """What it says of the size of a unit's change."""
    waits: bool = False
    """Whether it takes its time for what it leaves out."""


EXACT: Final = Conduct()
"""Honest, without any noise."""


@dataclass(slots=True)
class Execution:
    """What one host made of one chunk, or of some of its units."""

    output: Digest
    """Digest of the output manifest, or of the `Results`."""
    size: int
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    trace: Digest = ZERO_DIGEST
    skipped: int = 0
    """Units that were not computed."""
    whole: Trace | None = None
    """Of a whole chunk."""
    bad: dict[int, str] = field(default_factory=dict)
    """Units that nobody has computed -> the execution that invented them: this one, or one that it went on from."""


@dataclass(frozen=True, slots=True)
class FirstPart:
    """What a snapshot of a chunk holds: everything about the units that were done."""

    trace: Trace
    blobs: dict[Digest, bytes]
    """Their states and auxiliary files, and the state behind them."""
    bad: dict[int, str]


def first_part(made: Execution, units: int) -> FirstPart:
    """The first units of a chunk that was, or will be, made like this."""
    assert made.whole is not None
    trace = first_units(made.whole, units)
    named = {Digest(digest) for leaf in trace.leaves for digest in (leaf.state, leaf.aux)} - {ZERO_DIGEST}
    bad = {index: task for index, task in made.bad.items() if index < units}
    return FirstPart(trace, {digest: made.blobs[digest] for digest in named}, bad)


def execute(run: Run, conduct: Conduct = EXACT, before: FirstPart | None = None) -> Execution:
    """A whole chunk: its output, its trace, and every state. `before`: the units that it goes on from."""
    units, blobs = run.spec.units, dict[Digest, bytes]()
    leaves, effects, skipped, bad = list[Leaf](), bytearray(), 0, dict[int, str]()
    if before is None:
        content = _put(blobs, first(run))
    else:
        blobs |= before.blobs
        *leaves, last = before.trace.leaves
        content, bad = blobs[Digest(last.state)], dict(before.bad)
        effects += before.trace.effects
    for index in range(len(leaves), units):
        fed = unit_input(run, index) if not conduct.feeds(index) else b"other data"
        aux = wire.encode(("aux", wire.digest(content), index))
        leaves.append(Leaf(index, wire.digest(content), len(content), wire.digest(fed), _keep(blobs, aux), len(aux)))
        after = step(content, index, conduct.err(index))
        if conduct.skips(index):
            skipped, after = skipped + 1, State(wire.digest(b"invented" + content), 0)
            bad[index] = run.task
        content = _put(blobs, after)
        effects += encode_effect(conduct.effect(index))
    leaves.append(Leaf(units, wire.digest(content), len(content), ZERO_DIGEST, ZERO_DIGEST, 0))
    trace = Trace(tuple(leaves), bytes(effects))
    output, size = _output(blobs, content)
    return Execution(output, size, blobs, _keep(blobs, wire.encode(trace)), skipped, trace, bad)


def replay(run: Run, read: Read, conduct: Conduct = EXACT) -> Execution:
    """Some units, from their opened states; one without a state goes on from the unit before it."""
    blobs = dict[Digest, bytes]()
    results, content, output = list[UnitResult](), b"", ZERO_DIGEST
    for leaf in run.units:
        if leaf.index == 0:
            content = _put(blobs, first(run))
        elif leaf.state != ZERO_DIGEST:
            content = read(Digest(leaf.state))
        aux = wire.encode(("aux", wire.digest(content), leaf.index))
        after = step(content, leaf.index, conduct.err(leaf.index))
        if conduct.skips(leaf.index):
            after = State(wire.digest(b"invented" + content), 0)
        content = _put(blobs, after)
        fed, told = wire.digest(unit_input(run, leaf.index)), _keep(blobs, aux)
        results.append(UnitResult(leaf.index, fed, wire.digest(content), len(content), told, len(aux)))
        if leaf.index == run.spec.units - 1:
            output, _ = _output(blobs, content)
    body = wire.encode(Results(tuple(results), output))
    return Execution(_keep(blobs, body), len(body), blobs)


def finish(run: Run, read: Read) -> Execution:
    """The output files of an opened last state, once more."""
    assert run.last is not None
    blobs = dict[Digest, bytes]()
    output, size = _output(blobs, read(Digest(run.last.state)))
    return Execution(output, size, blobs)


def compare(work: Score, read: Read) -> Scored:
    """What the child process of a node would find about these pairs."""
    worst, blamed, errors, beyond = PPM, "", list[UnitError](), list[int]()
    for item in work.items:
        try:
            claimed, replayed = _read(read, item.claimed, work.provider), _read(read, item.replayed, work.auditor)
        except LookupError as missing:
            is_provider = missing.args[0] == work.provider
            fault: Literal["provider", "auditor"] = "provider" if is_provider else "auditor"
            return Scored(work.task, 0, "withheld", ZERO_DIGEST, fault, units=(item.index,))
        err = abs(claimed.err - replayed.err) / PPT if claimed.base == replayed.base else WRONG
        found = scores.score(err, work.tolerance)
        beyond += [item.index] if found < scores.SECOND else []
        if found < worst:
            worst, blamed = found, "update_differs"
        if found >= scores.ACCEPT and work.secret and work.kind == "training":
            errors.append(unit_error(claimed, replayed))
    code = blamed if worst < scores.ACCEPT else "within_tolerance"
    return Scored(work.task, worst, code, ZERO_DIGEST, errors=tuple(errors), units=tuple(beyond))


def unit_error(claimed: State, replayed: State) -> UnitError:
    """All error is along the update here; directions across it have nothing in common, unit by unit."""
    apart, place = claimed.err - replayed.err, claimed.base[0] % SKETCH
    return UnitError(abs(apart), apart, tuple(apart if at == place else 0 for at in range(SKETCH)))


def first(run: Run) -> State:
    """State 0, from the specification and the chunk alone."""
    return State(wire.digest(wire.encode(("first", wire.encode(run.spec), run.chunk))), 0)


def unit_input(run: Run, index: int) -> bytes:
    """What a unit reads, from the same."""
    return wire.encode(("input", wire.digest(wire.encode(run.spec)), run.chunk, index))


def step(content: bytes, index: int, err: int) -> State:
    """The state behind a unit."""
    return State(wire.digest(content + index.to_bytes(4, "big")), err)


def _read(read: Read, digest: Digest, owner: PeerId) -> State:
    try:
        return wire.decode(read(digest), _state_decoder, owner)
    except LookupError:
        raise LookupError(owner) from None


def _output(blobs: dict[Digest, bytes], content: bytes) -> tuple[Digest, int]:
    """The manifest of what a chunk puts out: its result, and its last state."""
    result = b"result of " + content
    files = (
        OutputFile("out.bin", _keep(blobs, result), len(result)),
        OutputFile(LAST_STATE, _keep(blobs, content), len(content)),
    )
    manifest = Manifest(files)
    return _keep(blobs, wire.encode(manifest)), manifest.size


def _put(blobs: dict[Digest, bytes], state: State) -> bytes:
    content = wire.encode(state)
    _keep(blobs, content)
    return content


def _keep(blobs: dict[Digest, bytes], content: bytes) -> Digest:
    digest = wire.digest(content)
    blobs[digest] = content
    return digest
