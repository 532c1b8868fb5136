"""A program with the documented interface of cuda-checkpoint 570, for machines without a GPU.

Its processes' states lie in a file beside it: {pid: state}. A process that is not in there has nothing to do with CUDA.
`fail` names actions that fail, as {"pid action": message}; `log` takes every action that succeeded.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

MOVES = {
    "lock": ("running", "locked"),
    "checkpoint": ("locked", "checkpointed"),
    "restore": ("checkpointed", "locked"),
    "unlock": ("locked", "running"),
}


def main() -> int:
    """Exit 0 and say nothing, or exit 1 with a sentence; --get-state prints the state."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--get-state", action="store_true")
    parser.add_argument("--action", choices=tuple(MOVES))
    parser.add_argument("--pid", "-p", required=True)
    parser.add_argument("--timeout", "-t", type=int)
    given = parser.parse_args()
    file = Path(__file__).with_name("world.json")
    world = json.loads(file.read_text())
    state = world["states"].get(given.pid)
    if state is None:
        print("Could not get the state of the process", file=sys.stderr)
        return 1
    if given.get_state:
        print(state)
        return 0
    wrong = world["fail"].get(f"{given.pid} {given.action}")
    if given.timeout is not None and given.action != "lock":
        wrong = "--timeout is for lock alone"
    if not wrong and state != MOVES[given.action][0]:
        wrong = f"invalid state: {state}"
    if wrong:
        print(wrong, file=sys.stderr)
        return 1
    world["states"][given.pid] = MOVES[given.action][1]
    world["log"].append(f"{given.action} {given.pid}")
    file.write_text(json.dumps(world))
    return 0


if __name__ == "__main__":
    sys.exit(main())
