"""Measured tolerances as data: for a task, an optimizer and a pair of machine classes, how far honest replays differ.

A profile is published with the runs that it comes from, and anybody who measures again can publish another. A job names
the profile that it wants; nothing in a profile is believed without its digest. Spec: specs/33-training-proof.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol.errors import Refused
from protocol.proof import PPT, Tolerance
from protocol.units import Digest
from verifier.score import HONEST_RUNS_MIN, calibrate

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+-]{0,31}$")]
Parts = Annotated[int, Meta(ge=0, le=1000 * PPT)]


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """One calibration."""

    task: Name
    """`training`, `lora`, …"""
    optimizer: Name
    classes: tuple[Name, Name]
    """Machine classes of executor and auditor, sorted: `x86-fp32`, `cuda-fp32`, …"""
    runs: Annotated[int, Meta(ge=HONEST_RUNS_MIN)]
    """Honest comparisons."""
    honest_max: Parts
    """Largest honest error, parts per trillion."""
    cheat_min: Parts
    """Smallest error of the cheat battery, parts per trillion."""
    model: Annotated[str, Meta(max_length=200)] = ""
    """On what it was measured, for people."""

    @property
    def name(self) -> str:
        """`task/optimizer/class/class`."""
        return "/".join((self.task, self.optimizer, *self.classes))

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON."""
        return Digest(hashlib.sha256(msgspec.json.encode(self, order="deterministic")).digest())

    @property
    def tolerance(self) -> Tolerance:
        """What it allows. Raises Refused `no_margin`: then there is no D3 for this task."""
        honest = [self.honest_max / PPT] * self.runs
        return calibrate(honest, [self.cheat_min / PPT], f"{self.task}/{self.optimizer}/{self.digest.hex()[:16]}")


def profile_of(
    errors: Iterable[float], cheats: Mapping[str, float], key: tuple[str, str, str, str], model: str
) -> Profile:
    """The profile of measured errors; `key` is task, optimizer, and the two classes. Raises Refused as `calibrate`."""
    honest = list(errors)
    calibrate(honest, list(cheats.values()))
    first, second = sorted(key[2:])
    largest, least = max(honest), min(cheats.values())
    return Profile(key[0], key[1], (first, second), len(honest), _up(largest), int(least * PPT), model)


def find(profiles: Iterable[Profile], task: str, optimizer: str, classes: tuple[str, str]) -> Profile:
    """The profile for a pair of classes in either order. Raises Refused `not_calibrated`."""
    first, second = sorted(classes)
    for profile in profiles:
        if (profile.task, profile.optimizer, profile.classes) == (task, optimizer, (first, second)):
            return profile
    raise Refused(
        f"nobody has measured {task} with {optimizer} between {first} and {second}",
        code="not_calibrated",
        fix="Use class D1, or measure a profile: python -m benchmarks.honest_matrix",
    )


def parse(data: bytes) -> Profile:
    """A profile from strangers' JSON. Raises Refused `malformed_proof`."""
    try:
        return msgspec.json.decode(data, type=Profile)
    except msgspec.DecodeError as error:
        raise Refused(f"no profile: {error}", code="malformed_proof") from None


def _up(err: float) -> int:
    return int(err * PPT) + 1


_ADDER: Final = "transformer of 17,952 numbers, batch 32, units of 5 steps, Linux x86-64 CPU"

PROFILES: Final = (
    Profile("training", "sgd", ("x86-fp32", "x86-fp32"), 200, 483_723, 1_473_583_103, _ADDER),
    Profile("training", "adamw", ("x86-fp32", "x86-fp32"), 200, 14_058_144, 3_356_205_942, _ADDER),
)
"""Measured by benchmarks/honest_matrix.py; the runs are in docs/honest-matrix.md."""
