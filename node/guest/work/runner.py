"""Runs or replays a unit program as the node asks, and leaves behind what the node makes a trace of.

| variable | value |
| --- | --- |
| SHOAL_PROOF | `run`, `replay` or `finish`; unset: no node, every unit is computed and nothing but the output is kept |
| SHOAL_UNITS | how many units the chunk has |
| SHOAL_SEED | hex: `Work.seed` |
| SHOAL_BEGIN | run: the unit at which it goes on; everything of those before it is in the folder |
| SHOAL_REPLAY | replay: the units to compute again, `0,4,7` |
| SHOAL_CHALLENGE | replay: hex, what chooses the part of a unit that is computed again |

In `$SHOAL_OUT/.shoal/`: `<i>.state` before unit i and after the last one, `<i>.aux`, `<i>.input`, and `units.json`,
which is written anew before the first unit of a run and after each: of the units that it tells of everything is
there. A replay reads `$SHOAL_IN/.shoal/open/<i>.state` and writes `<i>.state` as the state *after* unit i. Unit 0
starts from the replay's own first state, and a unit without an opened state from what the unit before it became.
`finish` makes the output of `$SHOAL_IN/.shoal/last.state` and computes no unit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from .tensors import State, decode, encode
from .work import Aux, Work

FOLDER = ".shoal"
"""Below the inputs and the outputs: what belongs to the node."""

LAST = "state.shoal"
"""The last state, in the output itself."""

INDEX = "units.json"
"""How many units are done, and how large the change of each was."""


def run(work: Work) -> None:
    """Do what the node wants of this process. Raises whatever the work raises."""
    mode = os.environ.get("SHOAL_PROOF", "")
    work.units = int(os.environ.get("SHOAL_UNITS") or work.units)
    work.chunk = int(os.environ.get("SHOAL_CHUNK") or work.chunk)
    work.seed = bytes.fromhex(os.environ.get("SHOAL_SEED") or work.seed.hex())
    out = Path(os.environ.get("SHOAL_OUT") or ".")
    if mode == "replay":
        opened = Path(os.environ["SHOAL_IN"]) / FOLDER / "open"
        indices = [int(word) for word in os.environ["SHOAL_REPLAY"].split(",")]
        _replay(work, indices, bytes.fromhex(os.environ["SHOAL_CHALLENGE"]), opened, out)
    elif mode == "finish":
        _finish(work, (Path(os.environ["SHOAL_IN"]) / FOLDER / "last.state").read_bytes(), out)
    elif mode == "run":
        _run(work, out, int(os.environ.get("SHOAL_BEGIN") or 0))
    else:
        data = encode(work.first())
        for index in range(work.units):
            after, _ = work.step(decode(data), index)
            data = encode(after)
        _finish(work, data, out)


def _run(work: Work, out: Path, begin: int) -> None:
    folder = out / FOLDER
    effects: list[float] = []
    if begin:
        data = (folder / f"{begin}.state").read_bytes()
        effects = json.loads((folder / INDEX).read_bytes())["effects"][:begin]
    else:
        folder.mkdir()
        data = encode(work.first())
        _write(folder / "0.state", data)
    _done(folder, work.units, effects)  # It has begun: whoever waits for the units of a lost run hears of it.
    for index in range(begin, work.units):
        # Read back from its bytes before every unit, as in a replay: what is not in the bytes is not in the state.
        after, aux = work.step(decode(data), index)
        before, data = data, encode(after)
        effects.append(_effect(work, before, data, aux))
        _write(folder / f"{index}.input", work.input(index))
        _write(folder / f"{index}.aux", encode(dict(aux)))
        _write(folder / f"{index + 1}.state", data)
        _done(folder, work.units, effects)
    _finish(work, data, out)


def _replay(work: Work, indices: list[int], seed: bytes, opened: Path, out: Path) -> None:
    folder = out / FOLDER
    folder.mkdir()
    data = b""
    for index in indices:
        if index == 0:  # Where a job begins is not for the worker to say.
            data = encode(work.first())
        elif (opened / f"{index}.state").exists():
            data = (opened / f"{index}.state").read_bytes()
        # Otherwise it goes on from the unit before, which was replayed just now.
        after, aux = work.replay(decode(data), index, seed)
        _write(folder / f"{index}.input", work.input(index))
        _write(folder / f"{index}.aux", encode(dict(aux)))
        if after is None:
            continue
        data = encode(after)
        _write(folder / f"{index}.state", data)
        if index == work.units - 1:
            _finish(work, data, out)
    _done(folder, work.units, [])


def _effect(work: Work, before: bytes, after: bytes, aux: Aux) -> float:
    claimed = float(work.effect(decode(before), decode(after), aux))
    return claimed if 0 <= claimed < float("inf") else -1.0


def _finish(work: Work, data: bytes, out: Path) -> None:
    state: State = decode(data)
    work.finish(state, out)
    _write(out / LAST, data)


def _done(folder: Path, units: int, effects: list[float]) -> None:
    _write(folder / INDEX, json.dumps({"effects": effects, "units": units}).encode())


def _write(path: Path, data: bytes) -> None:
    """Complete or not at all: a program that goes on from a snapshot writes the unit it was in once more."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
