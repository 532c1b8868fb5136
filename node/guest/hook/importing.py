"""Imports the script's own modules, and runs its main file, with resumable loops."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence

from .rewrite import rewrite

FOREIGN = ("site-packages", "dist-packages")
"""Folders of installed code."""

FRAMEWORKS = (
    "transformers/trainer.py", "accelerate/data_loader.py", "lightning/pytorch/loops/", "pytorch_lightning/loops/",
    "lightning/pytorch/utilities/combined_loader.py", "trl/trainer/",
)  # fmt: skip
"""Installed code that holds a script's training loop: its loops and frames count as the script's own."""


class Territory:
    """Which files are the script's own: below its folders, but neither installed nor Python's."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = [os.path.realpath(folder) for folder in folders if folder]
        self._python = [os.path.realpath(os.path.dirname(os.__file__))]
        self._hook = os.path.realpath(os.path.dirname(__file__))

    def holds(self, path: str) -> bool:
        """Whether a file is the script's own."""
        real = os.path.realpath(path)
        if is_framework(real):
            return True
        if any(part in FOREIGN for part in real.split(os.sep)):
            return False
        if any(_is_below(real, folder) for folder in [*self._python, self._hook]):
            return False
        return any(_is_below(real, folder) for folder in self.folders)


def is_framework(path: str) -> bool:
    """Whether a file is one of FRAMEWORKS."""
    folders = [os.sep + folder + os.sep for folder in FOREIGN]
    return any(path.rpartition(folder)[2].startswith(FRAMEWORKS) for folder in folders if folder in path)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


Noticed = Callable[[str, str], None]


class UserLoader(importlib.machinery.SourceFileLoader):
    """Compiles a module of the script anew each time: its loops are not those of the cached file."""

    noticed: Noticed
    is_main = False

    def get_code(self, fullname: str) -> types.CodeType | None:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        try:
            code = compile(rewrite(data, path, is_main=self.is_main), path, "exec", dont_inherit=True)
        except (SyntaxError, RecursionError):  # Too deeply nested with the added blocks, or wrong as it is.
            return compile(data, path, "exec", dont_inherit=True)
        assert isinstance(code, types.CodeType)
        self.noticed(path, fullname)
        return code


class ModuleFinder:
    """Stands before Python's own finder of files and exchanges the loader of the script's modules."""

    def __init__(self, territory: Territory, noticed: Noticed) -> None:
        self._territory = territory
        self._noticed = noticed

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec that Python finds, with our loader where the file is the script's."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        is_file = spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader
        if spec is not None and is_file and spec.origin and self._territory.holds(spec.origin):
            loader = UserLoader(name, spec.origin)
            loader.noticed = self._noticed
            spec.loader = loader
        return spec


class MainFinder:
    """Pretends that the main file is a folder with a `__main__`, so that Python lets it be loaded, as a zip file is."""

    def __init__(self, path: str, noticed: Noticed) -> None:
        self._path = path
        self._noticed = noticed

    def find_spec(self, name: str, target: types.ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        """The main module."""
        if name != "__main__":
            return None
        path = os.path.abspath(self._path)
        loader = UserLoader(name, path)
        loader.noticed = self._noticed
        loader.is_main = True
        spec = importlib.machinery.ModuleSpec(name, loader, origin=path)
        spec.has_location = True
        return spec


def hook_main(path: str, noticed: Noticed) -> None:
    """Let `python path` run the file through UserLoader."""

    wanted = os.path.abspath(path)
    entries: list[str] = []

    def finder_of(entry: str) -> MainFinder:
        if os.path.abspath(entry) != wanted:
            raise ImportError(entry)
        entries.append(entry)  # As given, or made absolute by Python.
        return MainFinder(wanted, noticed)

    def settle() -> None:
        """The first statement of the main file: what differs from a plain start is put right."""
        space = sys._getframe(1).f_globals
        space["__spec__"] = space["__package__"] = space["__cached__"] = None
        if sys.path and sys.path[0] in entries:
            sys.path[0] = os.path.dirname(os.path.realpath(path))
            if getattr(sys.flags, "safe_path", False):
                del sys.path[0]
        sys.path_hooks.remove(finder_of)
        for entry in entries:
            sys.path_importer_cache.pop(entry, None)

    builtins.__shoal_main__ = settle  # type: ignore[attr-defined]
    sys.path_hooks.insert(0, finder_of)


def hook_modules(territory: Territory, noticed: Noticed) -> None:
    """Let imports of the script's modules go through UserLoader."""
    finders = sys.meta_path
    at = next((i for i, finder in enumerate(finders) if finder is importlib.machinery.PathFinder), len(finders))
    finders.insert(at, ModuleFinder(territory, noticed))
