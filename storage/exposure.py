"""What a job may lose where: told to its renter before the start, for every host that could run it.

Pure. The rule is storage.interval's; here is what is known of a job before it has run. Spec: specs/28-recovery.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.jobspec import JobSpec
from protocol.units import SECOND, Micros
from storage.interval import loss_words, worst_case_loss

STATE_GUESS_PPM: Final = 250_000
"""Share of the memory asked for that a snapshot is guessed to have, parts per million, where its renter does not say:
of a training job's memory a third or so is weights and moments, the rest gradients, activations and the program."""


GUESSED: Final = "(a guess from the memory asked for)"


@dataclass(frozen=True, slots=True)
class State:
    """How much of a job a snapshot holds."""

    size: int
    """Bytes."""
    is_guess: bool


def state_of(spec: JobSpec) -> State:
    """As the job says (`checkpoint: {state: 500MB}`); else a guess from the memory that it asks for, of the cards where
    it asks for cards."""
    if spec.protection.state_bytes:
        return State(spec.protection.state_bytes, False)
    gpu = spec.resources.gpu
    asked = max(spec.resources.memory_bytes, gpu.count * gpu.memory_bytes_min)
    return State(asked * STATE_GUESS_PPM // 1_000_000, True)


def loss(spec: JobSpec, uplink: int) -> Micros:
    """The most work that a host takes with it, µs. `uplink`: bytes per second, 0 = not measured.

    Never more than a chunk may take; without snapshots exactly that."""
    if not spec.is_protected:
        return spec.timeout
    wanted = spec.protection
    return min(spec.timeout, worst_case_loss(state_of(spec).size, uplink, wanted.profile, wanted.every))


def words(spec: JobSpec, uplink: int) -> str:
    """`loss` for the renter.

    >>> from protocol.jobspec import Checkpoint, Chunk
    >>> spec = JobSpec("train", "torch", ("python train.py",), (Chunk(),), checkpoint=Checkpoint(state_bytes=6_000_000))
    >>> words(spec, 12_500_000)
    'at most 11 s of work is lost if this host dies: 6 MB of state at 100 Mbit/s are safe 1 s after each snapshot'
    """
    limit = f"{spec.timeout // SECOND} s"
    if not spec.is_protected:
        return f"no snapshots are taken: a chunk that is lost begins again, after {limit} at most"
    state, wanted = state_of(spec), spec.protection
    if worst_case_loss(state.size, uplink, wanted.profile, wanted.every) > spec.timeout:
        return f"at most {limit} of work is lost if this host dies: all that a chunk may take"
    told = loss_words(state.size, uplink, wanted.profile, wanted.every)
    return told.replace(" of state at ", f" of state {GUESSED} at ") if state.is_guess else told
