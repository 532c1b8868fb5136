"""What a sandbox gets for a job with a proof: the guest's package, opened states, a result to check, and the words that
tell the program what is wanted of it. Spec: specs/31-units.md.
"""

from __future__ import annotations

import importlib.resources
import mmap
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from node import outputs
from node.blobs import BlobStore
from node.executors.interface import Task
from node.runtimes import WASM_NAME
from protocol import wire
from protocol.effects import Run
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.jobrules import PROOF_FOLDER, RESULT_FOLDER
from protocol.jobspec import ZERO_DIGEST, JobSpec, Manifest
from protocol.proof import STATE_BYTES_MAX, Leaf, Proof
from protocol.units import MIB, Digest, PeerId
from verifier.tensors import MALFORMED, decode

GUEST: Final = "node.guest.work"
"""The package whose modules a unit program imports; read as data, so that it works from a wheel too."""

PACKAGE: Final = "shoal_work"
"""What it is called in the sandbox."""

FACE: Final = "face.py"
"""The module that becomes the package's own `__init__.py`."""

LAST: Final = "last.state"
"""The state of which only the output files are made."""

MANIFEST_BYTES_MAX: Final = 4 * MIB
"""FILES_MAX entries with the longest paths fit."""

PATH_LINE: Final = 'export PYTHONPATH="$SHOAL_IN/.shoal${PYTHONPATH:+:$PYTHONPATH}"'
"""The first line of every script with a proof: the shell knows where the inputs are, the node does not."""

_decoder: Final = wire.decoder(Manifest)
_NOBODY: Final = PeerId(bytes(32))


def has_units(work: Run) -> bool:
    """Whether this run makes a trace, or replays a part of one. The reduce step is a unit as a whole."""
    return work.spec.units_of(work.chunk) > 0 and not is_check(work)


def is_replay(work: Run) -> bool:
    """Whether only some units are computed, from opened states."""
    return has_units(work) and bool(work.units)


def is_finish(work: Run) -> bool:
    """Whether only the output files are made, of a last state that somebody claims."""
    return has_units(work) and work.last is not None


def is_check(work: Run) -> bool:
    """Whether nothing is computed: the job's own `check` looks at somebody's output."""
    return work.result != ZERO_DIGEST


def opened(work: Run) -> tuple[Leaf, ...]:
    """The leaves whose states a replay is given. Others follow from the unit before them, which is replayed as well:
    their states would be its answer."""
    return tuple(leaf for leaf in work.units if leaf.state != ZERO_DIGEST)


def states(work: Run) -> tuple[Leaf, ...]:
    """The leaves whose states are to be here before a run of units begins."""
    return (*opened(work), *((work.last,) if work.last is not None and has_units(work) else ()))


def seed_of(spec: JobSpec, chunk: int) -> bytes:
    """32 bytes that are the same for everybody who computes this chunk, and different for every other."""
    return wire.digest(b"shoal/1\0seed\0" + wire.digest(wire.encode(spec)) + chunk.to_bytes(4, "big"))


def manifest(blobs: BlobStore, digest: Digest) -> Manifest:
    """The list of an output that is here. Unavailable when it is not, Refused (`inputs`) when it is no such list."""
    try:
        return wire.decode(blobs.read(digest, MANIFEST_BYTES_MAX), _decoder, _NOBODY, MANIFEST_BYTES_MAX)
    except RemoteViolation as error:
        raise Refused(f"{digest.hex()} is no list of files: {error.rule}", code="inputs") from None


def prepare(work: Run, task: Task) -> Task:
    """The task with the lines and variables of its proof; the same task where the job has none."""
    proof = work.spec.proof
    if not isinstance(proof, Proof):
        if is_check(work):
            raise LocalError(f"{work.task} checks a result of a job that has no check")
        return task
    commands = proof.check if is_check(work) else task.commands
    if work.spec.runtime != WASM_NAME:
        commands = (PATH_LINE, *commands)
    return replace(task, commands=commands, env={**task.env, **_words(work)})


def _words(work: Run) -> dict[str, str]:
    words = {"SHOAL_SEED": seed_of(work.spec, work.chunk).hex()}
    if not has_units(work):
        return words
    words |= {"SHOAL_PROOF": "run", "SHOAL_UNITS": str(work.spec.units)}
    if is_finish(work):
        words |= {"SHOAL_PROOF": "finish"}
    elif is_replay(work):
        indices = ",".join(str(leaf.index) for leaf in work.units)
        words |= {"SHOAL_PROOF": "replay", "SHOAL_REPLAY": indices, "SHOAL_CHALLENGE": work.seed.hex()}
    return words


def lay_out(work: Run, task: Task, blobs: BlobStore, may_link: bool) -> None:
    """Put the guest's package, opened states or a result below the inputs of a task whose folders are made. Refused
    (`inputs`) when something of the job is in the way. Blocks."""
    if not isinstance(work.spec.proof, Proof):
        return
    try:
        folder = task.inside / PROOF_FOLDER
        _make(folder)
        if work.spec.runtime != WASM_NAME:
            _lay_guest(folder / PACKAGE)
        if work.last is not None and is_finish(work):
            source = blobs.path(Digest(work.last.state))
            check_state(source, work.last.index)
            _lay(source, folder / LAST, may_link)
        elif is_replay(work):
            _make(folder / "open")
            for leaf in opened(work):
                source = blobs.path(Digest(leaf.state))
                check_state(source, leaf.index)
                _lay(source, folder / "open" / f"{leaf.index}.state", may_link)
        if is_check(work):
            _lay_result(work.result, task.inside / RESULT_FOLDER, blobs, may_link)
    except OSError as error:
        raise Refused(f"what proves the job cannot be laid out: {error}", code="inputs") from error


def check_state(path: Path, index: int) -> None:
    """A state that no unit program writes would end the program, and look like the failure of who runs it. Refused
    (`inputs`)."""
    if not 0 < path.stat().st_size <= STATE_BYTES_MAX:
        raise Refused(f"{MALFORMED}: the state before unit {index} has no fit size", code="inputs")
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        decode(memoryview(mapped))
    except Refused as error:
        raise Refused(f"{MALFORMED}: the state before unit {index}: {error.detail}", code="inputs") from None


def _lay_guest(folder: Path) -> None:
    _make(folder)
    for entry in importlib.resources.files(GUEST).iterdir():
        if not entry.name.endswith(".py") or entry.name == "__init__.py":
            continue
        target = folder / ("__init__.py" if entry.name == FACE else entry.name)
        target.write_bytes(entry.read_bytes())
        target.chmod(0o444)


def _lay_result(digest: Digest, folder: Path, blobs: BlobStore, may_link: bool) -> None:
    _make(folder)
    for file in manifest(blobs, digest).files:
        target = folder / outputs.input_path(file.path)
        for parent in reversed(target.relative_to(folder).parents[:-1]):
            if not (folder / parent).is_dir():
                _make(folder / parent)
        _lay(blobs.path(Digest(file.digest)), target, may_link)


def _lay(source: Path, target: Path, may_link: bool) -> None:
    if may_link:
        try:
            os.link(source, target)
        except OSError:  # Another disk, or too many names: a copy does as well.
            pass
        else:
            return
    shutil.copyfile(source, target)
    target.chmod(0o444)


def _make(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
