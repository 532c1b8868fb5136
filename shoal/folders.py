"""Where Shoal's folders lie: the checkout, or `shoal/_app/` in an installed wheel.

The command line puts that path first (`shoal.__main__`). Library faces put it last, so that a program that imports them
keeps its own modules.
"""

from __future__ import annotations

import sys
from pathlib import Path


def open_for_library() -> None:
    """Make `protocol` and the other folders importable from a program that imports `shoal.client`."""
    app = Path(__file__).parent / "_app"
    if app.is_dir() and str(app) not in sys.path:
        sys.path.append(str(app))
