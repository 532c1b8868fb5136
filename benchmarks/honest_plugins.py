"""Other classes of work in the honest matrix: a function that computes something and returns digests by name.

It runs in a process of its own under every configuration, and prints what must be the same everywhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from msgspec import Struct


class Plugin(Struct, frozen=True):
    """One class of work."""

    title: str
    """As in the table."""
    python: str
    """Interpreter, from the repository's root."""
    module: str
    function: str
    """Takes nothing, returns a dictionary of names and digests."""
    needs: str = ""
    """A file without which it cannot run."""

    @property
    def line(self) -> str:
        """What the process runs."""
        return f"import json; from {self.module} import {self.function} as made; print(json.dumps(made()))"

    def can_run(self, root: Path) -> bool:
        """Whether interpreter and module are there."""
        module = root / (self.module.replace(".", "/") + ".py")
        return bool(shutil.which(root / self.python)) and module.exists() and (root / self.needs).exists()


PLUGINS: Final[tuple[Plugin, ...]] = ()
"""In the order of the document."""
