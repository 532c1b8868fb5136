"""Attack 08: a trajectory joined from two models: honest units of one, then honest units of another.

Every unit but one is what its own state leads to. The one where they are joined makes the largest claimed change, which
is always looked at.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.trace import encode_effect
from tests.adversarial import small_training as small
from verifier import challenge
from verifier.score import ACCEPT
from verifier.tensors import Tensors

JOINED = 5


def joined(folder: Path, optimizer: str) -> tuple[small.Small, list[Tensors], list[Tensors]]:
    """(the job, states of which those behind unit JOINED are another model's, what the units tell)."""
    job = small.work(folder / "one", optimizer)
    small.lay_out(folder / "other", b"another model")
    ours, told = small.chain(job, 8)
    theirs, their_told = small.chain(small.work(folder / "other", optimizer), 8)
    return job, [*ours[: JOINED + 1], *theirs[JOINED + 1 :]], [*told[: JOINED + 1], *their_told[JOINED + 1 :]]


def sampled(job: small.Small, states: list[Tensors], told: list[Tensors], seed: bytes) -> tuple[int, ...]:
    """The units that a challenge opens, from the effects that the program itself claims."""
    effects = [
        int.from_bytes(encode_effect(job.effect(states[i], states[i + 1], told[i])), "big") for i in range(len(told))
    ]
    return challenge.indices(seed, len(told), 4, effects, touch=False)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_joint_is_opened_and_rejected(optimizer: str, tmp_path: Path) -> None:
    job, states, told = joined(tmp_path, optimizer)
    sizes = [job.effect(states[i], states[i + 1], told[i]) for i in range(8)]
    assert max(range(8), key=lambda i: sizes[i]) == JOINED
    opened = [JOINED in sampled(job, states, told, bytes([first]) + b"x" * 31) for first in range(1, 9)]
    assert all(opened[place] for place in range(8) if (place + 1) % challenge.UNIFORM_FIRST)
    twin = small.work(tmp_path / "one", optimizer, kind=small.Twin)
    replayed = small.unit(twin, states[JOINED], JOINED)
    code, ppm = small.verdict(states[JOINED], (states[JOINED + 1], told[JOINED]), replayed, optimizer)
    assert (code, ppm) == ("update_differs", 0)


def test_every_other_unit_is_what_its_state_leads_to(tmp_path: Path) -> None:
    _, states, told = joined(tmp_path, "sgd")
    twin = small.work(tmp_path / "one", kind=small.Twin)
    for index in (0, 3, 6, 7):
        replayed = small.unit(twin, states[index], index)
        assert small.verdict(states[index], (states[index + 1], told[index]), replayed, "sgd")[1] >= ACCEPT


def test_a_trajectory_in_one_piece_is_accepted(tmp_path: Path) -> None:
    job = small.work(tmp_path)
    states, told = small.chain(job, 8)
    twin = small.work(tmp_path, kind=small.Twin)
    for index in sampled(job, [*states], told, b"y" * 32):
        replayed = small.unit(twin, states[index], index)
        code, ppm = small.verdict(states[index], (states[index + 1], told[index]), replayed, "sgd")
        assert (code, ppm >= ACCEPT) == ("within_tolerance", True)
