"""specs/15-provider.md against protocol.provider."""

from __future__ import annotations

from typing import get_args

import specs
from protocol import provider

SPEC = specs.load("15-provider")


def test_constants_are_those_of_the_code() -> None:
    assert {name: getattr(provider, name) for name in SPEC.constants} == SPEC.constants


def test_every_phase_of_the_code_is_in_the_table() -> None:
    assert {row["phase"] for row in SPEC.table("Phases of a lease")} == set(get_args(provider.Phase))
