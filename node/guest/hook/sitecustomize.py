"""Python imports this at every start of a job's interpreter: it begins the hook, and never fails.

The folder leaves `sys.path` at once, so that none of its names hides a module of the job. Another `sitecustomize`
further down the path is loaded as it would have been without this one.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types


def _module(name: str, path: str, folders: list[str] | None = None) -> types.ModuleType:
    """A module or package from a file, under a name of ours."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load(folder: str) -> None:
    """The hook as the package `shoal_hook`, whatever its folder is called."""
    _module("shoal_hook", os.path.join(folder, "__init__.py"), [folder])
    from shoal_hook import start  # type: ignore[import-not-found]

    start.start()


class _Sdk:
    """Finds `shoal_job`, after everything that the job may have under that name."""

    def __init__(self, path: str) -> None:
        self.path = path

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """The module's place."""
        return importlib.util.spec_from_file_location(name, self.path) if name == "shoal_job" else None


def _begin() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.abspath(entry) != folder]
    if not any(type(finder).__name__ == "_Sdk" for finder in sys.meta_path):
        sys.meta_path.append(_Sdk(os.path.join(folder, "shoal_job.py")))
    board = os.path.join(os.environ.get("SHOAL_SNAPSHOT_DIR", ""), "board")
    if os.path.isabs(board) and os.path.exists(board) and "shoal_hook" not in sys.modules:
        try:
            _load(folder)
        except (ImportError, OSError, SyntaxError) as error:  # The job must not see it; the rest is start.py's.
            sys.stderr.write("shoal: no snapshots: %s\n" % error)
    _chain(folder)


def _chain(folder: str) -> None:
    """Import the next `sitecustomize` of the path, if there is one."""
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None and spec.origin != os.path.join(folder, "sitecustomize.py"):
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_begin()
