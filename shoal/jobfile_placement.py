"""How `placement` of a job file is read: how far away, in which regions, and how strictly."""

from __future__ import annotations

import re
from typing import Final

from protocol import yaml_values
from protocol.jobspec import Placement
from protocol.yaml_nodes import Node
from shoal import jobfile_schema as schema

PLACEMENT_KEYS: Final = frozenset(["latency_ms_max", "regions", "strict"])

LATENCY_MS_MAX: Final = 10_000
"""Milliseconds: more than any round trip that ends."""

_REGION: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_REGION_FORM: Final = "a region such as eu-west"


def read_placement(node: Node, key: str) -> Placement:
    """`{latency_ms_max: 50, regions: [eu-west], strict: true}`, each of them optional."""
    said = yaml_values.pairs(node, key, PLACEMENT_KEYS)
    latency = 0
    if "latency_ms_max" in said:
        latency = yaml_values.integer(said["latency_ms_max"], f"{key}.latency_ms_max", 1, LATENCY_MS_MAX)
    return Placement(
        latency_ms_max=latency,
        regions=_regions(said["regions"], f"{key}.regions") if "regions" in said else (),
        is_strict=schema.switch(said["strict"], f"{key}.strict") if "strict" in said else False,
    )


def _regions(node: Node, key: str) -> tuple[str, ...]:
    listed = yaml_values.items(node, key, "a list of regions such as [eu-west, eu-north]")
    if len(listed) > 16:
        raise yaml_values.mismatch(node, key, "at most 16 regions")
    return tuple(_region(item, f"{key}[{index}]") for index, item in enumerate(listed))


def _region(node: Node, key: str) -> str:
    text = yaml_values.word(node, key, _REGION_FORM)
    if not _REGION.fullmatch(text):
        raise yaml_values.mismatch(node, key, _REGION_FORM, "Use a-z, 0-9 and dashes, up to 32 of them.")
    return text
