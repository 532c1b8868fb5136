"""The points at which a node may be killed while it takes or restores a snapshot, by name. Tests kill it at each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

Phase = Literal[
    "asked",
    "answered",
    "taken",
    "copied",
    "shard",
    "sealed",
    "told",
    "kept",
    "fetching",
    "fetched",
    "opened",
    "handed_in",
    "restored",
]
"""Of a cut: the guest is asked, has answered, its folder is taken out of its reach, copied; a shard is a blob, all are,
the machines are told, the copy is kept. Of a restore: shards are fetched, here, opened, handed in, used."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

OnPhase = Callable[[Phase], None]
"""Called when a phase is reached; also from a worker thread."""


def unnoticed(phase: Phase) -> None:
    """Nobody watches."""
