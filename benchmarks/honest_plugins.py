"""Other classes of work in the honest matrix: functions `bitwise_run(threads)` that return one digest.

Each runs some times in a process of its own under every configuration. In a bitwise class the digest is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

REPEATS: Final = 25
"""Runs in each configuration: 225 in all nine."""


class Plugin(Struct, frozen=True):
    """One class of work."""

    title: str
    """As in the table."""
    module: str
    """Has `bitwise_run`; `shoal_work.…` is the guest's package."""
    folder: str = ""
    """Of the module, from the repository's root, where it is no part of the guest's package."""
    python: str = ".venv/bin/python"
    """Interpreter, from the repository's root."""
    repeats: int = REPEATS
    is_bitwise: bool = True
    """Whether its class claims equal bits on all configurations (D0, D1); else it is shown for what it is (D2)."""

    def line(self, root: Path, threads: int) -> str:
        """What the process runs."""
        return (
            f"import json, sys; sys.path.insert(0, {str(root / self.folder)!r}); "
            f"from {self.module} import bitwise_run; "
            f"print(json.dumps([bitwise_run({threads}) for _ in range({self.repeats})]))"
        )

    def can_run(self, root: Path) -> bool:
        """Whether interpreter and module are there."""
        name = self.module.replace("shoal_work.", "node.guest.work.").replace(".", "/") + ".py"
        return (root / self.python).exists() and (root / self.folder / name).exists()


PLUGINS: Final = (
    Plugin("inference, int8 transformer (D1)", "shoal_work.inference"),
    Plugin("rendering, ball (D1)", "shoal_work.rendering"),
    Plugin("rendering, path tracer of examples/render-units (D1)", "render", "examples/render-units"),
    Plugin("scientific, Monte Carlo streams (D0)", "shoal_work.scientific"),
    Plugin("scientific, darts of examples/montecarlo (D0)", "pi", "examples/montecarlo"),
)
"""In the order of the document."""
