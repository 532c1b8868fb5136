"""docs/owner.md: every setting of a node is in its table, with the default that is really in force."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import msgspec
import pytest

from node.config import FIELDS, Config
from protocol.units import CREDIT

TEXT: Final = (Path(__file__).parents[2] / "docs" / "owner.md").read_text(encoding="utf-8")
ROWS: Final = dict(re.findall(r"^\| `([a-z_]+)` \| `?(.+?)`? \| ", TEXT, re.MULTILINE))
FOR_TESTS: Final = {"misbehave"}
IN_WORDS: Final = {"attestation_python", "data", "executors", "genesis", "trust_roots"}
"""Their defaults are no values that anybody would write."""


def test_every_setting_is_told() -> None:
    assert set(ROWS) == set(FIELDS) - FOR_TESTS


@pytest.mark.parametrize("name", sorted(set(FIELDS) - FOR_TESTS - IN_WORDS))
def test_the_defaults_are_true(name: str) -> None:
    told = tomllib.loads(f"value = {ROWS[name]}")["value"]
    default = msgspec.to_builtins(Config(data=Path()), enc_hook=str)[name]
    if name == "price_per_hour":
        told = int(told) * CREDIT
    assert told == (list(default) if isinstance(default, tuple) else default)
