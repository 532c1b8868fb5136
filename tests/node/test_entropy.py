"""Secrets have their size and do not repeat."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from node import entropy
from protocol.identity import SEED_BYTES


@pytest.mark.parametrize("source", [entropy.seed, entropy.salt, entropy.token])
def test_nothing_repeats(source: Callable[[], bytes | str]) -> None:
    assert len({source() for _ in range(1_000)}) == 1_000


def test_sizes() -> None:
    assert len(entropy.seed()) == SEED_BYTES
    assert len(entropy.salt()) == entropy.SALT_BYTES
    assert len(base64.urlsafe_b64decode(entropy.token() + "=")) == entropy.TOKEN_BYTES


def test_dice_differ() -> None:
    assert entropy.dice().getrandbits(64) != entropy.dice().getrandbits(64)
