"""Runs scripts, each in a fork of one process that has already imported what is slow to import.

Spoken to over its standard streams: a line of JSON per script in (`main`, `folder`, `env`); the child's process id out,
and its exit status when it has ended. Where the environment names the hook, the child begins as an interpreter with the
hook does, and finds torch at its first import of it; so a script costs its own work, not the seconds that torch takes.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import os
import pkgutil
import runpy
import sys
import threading
import traceback
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

SLOW = ("numpy", "torch", "torch._dynamo", "torch.utils.data", "torch.optim.swa_utils", "torch.distributions")
"""What most scripts import; the first step of an optimizer imports torch._dynamo, a second by itself."""


class Loaded:
    """Finder and loader of a module that was imported before the fork: its import is seen, and costs nothing."""

    def __init__(self, name: str) -> None:
        self._module = sys.modules.pop(name)
        self._spec = self._module.__spec__

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """A spec for that one name."""
        return ModuleSpec(name, self) if name == self._module.__name__ else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """The module as it is."""
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        """It ran before the fork."""
        module.__spec__ = self._spec


def main() -> None:
    """Fork and wait, script by script, until the input ends."""
    for name in SLOW:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            run(order["main"], Path(order["folder"]), order["env"])
        os.setpgid(child, child)  # By both, so that whoever reads the number may kill the group.
        print(child, flush=True)
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
        sys.argv, sys.orig_argv = [name], [sys.executable, name]
        sys.modules["__main__"] = types.ModuleType("__main__")
        if hook := env.get("PYTHONPATH", ""):
            sys.meta_path.insert(0, Loaded("torch"))
            sys.modules.pop("sitecustomize", None)
            sys.path[0] = hook
            importlib.import_module("sitecustomize")
        else:
            del sys.path[0]
        begin(name, folder / "in")
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def begin(name: str, folder: Path) -> None:
    """What `python name` does: a file that a path hook claims is imported from, any other is read."""
    if pkgutil.get_importer(name) is None:
        sys.path.insert(0, str(folder))
        runpy.run_path(name, run_name="__main__")
    else:
        sys.path.insert(0, name)
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
