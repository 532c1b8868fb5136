"""What a campaign must not leave behind: processes, control groups, task folders, blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

from node.config import load
from node.executors import cgroup
from node.host import label_of

BLOBS_MAX: Final = 64 << 20
"""Bytes of blobs that a node may keep after its jobs: results, inputs and notes, and no snapshots."""


def processes(script: str) -> list[str]:
    """Command lines in which the campaign's script still appears."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(script in word for word in words):
            found.append(" ".join(words)[:200])
    return found


def groups(folder: Path, nodes: list[str]) -> list[str]:
    """Control groups of tasks of these nodes."""
    prefixes = [cgroup.prefix(label_of(load({"data": folder / node}, {}).config)) for node in nodes]
    tops = [cgroup.ROOT, *cgroup.ROOT.iterdir()]
    return [str(path) for top in tops if top.is_dir() for prefix in prefixes for path in top.glob(f"{prefix}*")]


def tasks(folder: Path, nodes: list[str]) -> list[str]:
    """Folders of tasks."""
    return [str(path) for node in nodes for path in (folder / node / "tasks").glob("*")]


def blobs(folder: Path, nodes: list[str]) -> dict[str, int]:
    """Bytes of blobs of each node that has more than it may."""
    sizes = {
        node: sum(path.stat().st_size for path in (folder / node / "blobs").rglob("*") if path.is_file())
        for node in nodes
    }
    return {node: size for node, size in sizes.items() if size > BLOBS_MAX}
