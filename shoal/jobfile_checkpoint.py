"""How `checkpoint` of a job file is read: on, off, how often, and what matters more."""

from __future__ import annotations

from typing import Final

from protocol import yaml_values
from protocol.jobspec import Checkpoint
from protocol.units import MINUTE, SECOND, Micros
from protocol.yaml_nodes import Node, Scalar
from shoal import jobfile_schema as schema

CHECKPOINT_KEYS: Final = frozenset(["every", "profile", "state"])

EVERY_MIN: Final = Micros(1 * SECOND)
"""Microseconds: what is cut more often than this mostly waits for its own upload."""

EVERY_MAX: Final = Micros(5 * MINUTE)
"""Microseconds: the most work that may be lost (features S1)."""

STATE_MAX: Final = 1 << 50
"""Bytes of a snapshot: a pebibyte is a slip of the pen."""

_FORM: Final = "on, off, or a map such as {every: 20s, profile: min-loss}"
_PROFILE: Final = "min-loss or max-efficiency"
_SWITCH: Final = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def read_checkpoint(node: Node, key: str) -> Checkpoint:
    """`on`, `off`, or `{every: 20s, profile: min-loss | max-efficiency, state: 500MB}`, each of the three optional."""
    if isinstance(node, Scalar):
        text = node.text.lower()
        if text not in _SWITCH:
            raise yaml_values.mismatch(node, key, _FORM)
        return Checkpoint(is_on=_SWITCH[text])
    said = yaml_values.pairs(node, key, CHECKPOINT_KEYS)
    every = schema.span(said["every"], f"{key}.every", EVERY_MIN, EVERY_MAX) if "every" in said else Micros(0)
    state = schema.size(said["state"], f"{key}.state", 1, STATE_MAX) if "state" in said else 0
    profile = yaml_values.word(said["profile"], f"{key}.profile", _PROFILE) if "profile" in said else "min-loss"
    match profile:
        case "min-loss" | "max-efficiency":
            return Checkpoint(every=every, profile=profile, state_bytes=state)
        case _:
            raise yaml_values.mismatch(said["profile"], f"{key}.profile", _PROFILE)
