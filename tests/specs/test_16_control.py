"""specs/16-control.md against node.control and node.methods."""

from __future__ import annotations

import specs
from node import control, control_methods

SPEC = specs.load("16-control")


def test_constants_are_those_of_the_code() -> None:
    found = {name: getattr(control, name, None) or getattr(control_methods, name) for name in SPEC.constants}
    assert found == SPEC.constants
