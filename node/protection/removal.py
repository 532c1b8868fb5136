"""Delete what a job left, whatever it built: trees deeper than any recursion, folders without rights, links, and
changes while it is being deleted.

Each folder is first moved next to `grave`'s other entries, where the job cannot reach it; only then is it looked into.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

ROUNDS_MAX: Final = 8
"""Times that a folder is emptied: a process that still holds it open may add to it, but not for ever."""

_numbers: Final = itertools.count()


def remove(path: Path, grave: Path) -> None:
    """Delete `path` through `grave`, a folder on the same disk that no job can write to. Nothing there is fine; what
    cannot be deleted stays."""
    if not _is_folder(path):
        with suppress(OSError):
            path.unlink()
        return
    queue = [path] if path.parent == grave else list(_buried(path, grave))
    while queue:
        folder = queue.pop()
        for _ in range(ROUNDS_MAX):
            queue += _emptied(folder, grave)
            with suppress(OSError):
                folder.rmdir()
                break


def _emptied(folder: Path, grave: Path) -> list[Path]:
    """Delete the files of a buried folder and bury its folders."""
    found: list[Path] = []
    with suppress(OSError):
        folder.chmod(0o700)
        with os.scandir(folder) as listing:
            names = [entry.name for entry in listing]
        for name in names:
            entry = folder / name
            if _is_folder(entry):
                found += _buried(entry, grave)
            else:
                with suppress(OSError):
                    entry.unlink()
    return found


def _buried(path: Path, grave: Path) -> Iterator[Path]:
    """The new place of a folder; nothing when it was gone, or a link by the time it was moved."""
    target = grave / f".gone-{next(_numbers)}"
    try:
        path.rename(target)
    except OSError:
        return
    if _is_folder(target):
        yield target
    else:
        with suppress(OSError):
            target.unlink()


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
