"""Runs scripts plainly, each in a fork of one process that has already imported what is slow to import.

Spoken to over its standard streams: a line of JSON per script in (`main`, `folder`, `env`), its exit status out. It
never sees the hook: it makes the references of the quick test, and so saves the second or two that torch takes to load.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

SLOW = ("numpy", "torch", "torch._dynamo", "torch.utils.data", "torch.optim.swa_utils", "torch.distributions")
"""What most scripts import; the first step of an optimizer imports torch._dynamo, a second by itself."""


def main() -> None:
    """Fork and wait, script by script, until the input ends."""
    for name in SLOW:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(order["main"], Path(order["folder"]), order["env"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(name: str, folder: Path, env: dict[str, str]) -> None:
    """Be the script: its folder, its environment, its streams. Does not return."""
    code = 1
    try:
        os.chdir(folder / "in")
        for stream, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(folder / stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.clear()
        os.environ.update(env)
        sys.path[0] = str(folder / "in")
        sys.argv = [name]
        runpy.run_path(name, run_name="__main__")
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
