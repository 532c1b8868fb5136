"""docs/validator.md tells every key of a policy, with its default."""

from __future__ import annotations

import json
import re

import msgspec

from protocol.policy import Policy
from tests.test_docs import ROOT

PAGE = (ROOT / "docs" / "validator.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \|$", re.MULTILINE)


def test_every_key_of_a_policy_is_told_with_its_default() -> None:
    section = PAGE[PAGE.index("## The economics of a network") : PAGE.index("## Keep it alive")]
    told = {name: json.loads(value) for name, value in ROW.findall(section)}
    assert told == msgspec.to_builtins(Policy())
