"""The wall clock of one Python process, wrong by NETLAB_SKEW_S seconds: this folder stands first on its PYTHONPATH.

Time namespaces of Linux shift the monotonic clock and never the wall; a node reads the wall through `time` alone.
"""

from __future__ import annotations

import os
import time
from typing import Final

SHIFT_NS: Final = int(float(os.environ.get("NETLAB_SKEW_S", "0")) * 1e9)
_real: Final = time.time_ns

time.__dict__.update(time_ns=lambda: _real() + SHIFT_NS, time=lambda: (_real() + SHIFT_NS) / 1e9)
