"""For the job's `check` line: the total energy of every revealed result has stayed within 0.1 % of where it began."""

import os
from pathlib import Path

from shoal_work.scientific import check_drift

check_drift(Path(os.environ["SHOAL_IN"]) / "result", 0, 1e-3)
