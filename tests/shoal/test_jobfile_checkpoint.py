"""`checkpoint` of a job file: on, off, or how often, for what, and how large; or refused at its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from protocol.errors import Refused
from protocol.jobspec import Checkpoint
from protocol.units import SECOND, Micros
from shoal.jobfile import read

START = "type: task\nname: x\ncommands: [a]\n"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("on", Checkpoint()),
        ("off", Checkpoint(is_on=False)),
        ("{every: 20s}", Checkpoint(every=Micros(20 * SECOND))),
        ("{profile: max-efficiency}", Checkpoint(profile="max-efficiency")),
        ("{state: 500MB}", Checkpoint(state_bytes=500 << 20)),
    ],
)
def test_a_checkpoint_is_read(said: str, meant: Checkpoint, tmp_path: Path) -> None:
    assert read(f"{START}checkpoint: {said}\n", tmp_path, {}).spec.checkpoint == meant


def test_nothing_said_keeps_the_digest(tmp_path: Path) -> None:
    assert read(START, tmp_path, {}).spec.checkpoint is UNSET


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("sometimes", "on, off, or a map"),
        ("{every: 6m}", "checkpoint.every"),
        ("{profile: fast}", "checkpoint.profile"),
        ("{state: large}", "checkpoint.state"),
        ("{state: 0}", "checkpoint.state"),
        ("{size: 5MB}", "size"),
    ],
)
def test_nonsense_is_refused(said: str, detail: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=detail):
        read(f"{START}checkpoint: {said}\n", tmp_path, {})
