"""The front door: open the application directory, then hand over to the command line.

An installed wheel keeps the folders of Shoal in `shoal/_app/`, which only this process opens, in front of the working
directory. So a user's own `storage/` or `node/` shadows nothing of ours, and nothing of ours shadows theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path

_here = Path(__file__).parent
_app = _here / "_app"  # Present in an installed wheel; in a checkout the repository root serves.
sys.path.insert(0, str(_app if _app.is_dir() else _here.parent))


def main() -> int:
    """Run the command line. Returns the exit code."""
    if sys.flags.optimize:
        print("shoal: assertions guard its invariants, start it without -O and PYTHONOPTIMIZE", file=sys.stderr)
        return 2
    if sys.argv[1:] == ["_score"]:  # The frozen program is its own comparing child (node/proving/judgement.py).
        from node.proving.scoring import main as compare

        return compare()
    if sys.argv[1:] == ["_bench"]:  # And the one that answers benchmarks (node/benchmarking.py).
        from node.benchmark_child import main as multiply

        return multiply()
    from shoal.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
