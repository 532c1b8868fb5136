"""The js-libp2p packages that some benchmarks compare with: installed from the lock file on first use, or a reason."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "tests" / "interop"
INSTALL_S: Final = 180.0
"""Deadline of `npm ci`: sixty packages."""


@lru_cache(maxsize=1)
def missing() -> str:
    """Why js cannot be measured; empty when it can. Installs what is not there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node or npm is not installed"
    if (FOLDER / "node_modules" / "@libp2p" / "gossipsub").is_dir():
        return ""
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        return f"npm ci in tests/interop took longer than {INSTALL_S:g} s"
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        return f"npm ci in tests/interop failed: {said[-1][:200]}"
    return ""
