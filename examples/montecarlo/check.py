"""For the job's `check` line: the total is the sum of all streams."""

import os
from pathlib import Path

from shoal_work.scientific import check_total

check_total(Path(os.environ["SHOAL_IN"]) / "result")
