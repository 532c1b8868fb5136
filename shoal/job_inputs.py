"""The local files that a job takes with it: found under the job file's folder, hashed, given their path under `/in`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.jobrules import RESERVED_FOLDER, path_problem
from protocol.jobspec import FILES_MAX, PATH_CHARS_MAX, FileRef
from protocol.units import Digest
from protocol.yaml_nodes import Node, Place, wrong
from protocol.yaml_values import scalar

SKIPPED_FOLDERS: Final = frozenset((".git", "__pycache__", ".venv", "node_modules", ".ipynb_checkpoints"))
"""Folders that nobody means to send; a job that needs one can rename it."""

READ_BYTES: Final = 1 << 20
"""Piece size for hashing: memory stays flat on any file."""

FILE_FORM: Final = "a file or folder such as ./data, or ./data:/data"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file to send: where it is here, and what it is in the job."""

    source: Path
    ref: FileRef


def collect(entries: tuple[tuple[Node, str], ...], folder: Path) -> tuple[LocalFile, ...]:
    """Every file that the entries (node, key) name, sorted by path under `/in`; `Refused` at the place of the entry."""
    folder = folder.resolve()
    chosen: dict[str, LocalFile] = {}
    for node, key in entries:
        for target, source in _expanded(node, key, folder):
            problem = path_problem(target)
            if not problem and target.split("/")[0] == RESERVED_FOLDER:
                problem = "is kept for the outputs that the reduce step reads"
            if not problem and len(target) > PATH_CHARS_MAX:
                problem = f"has more than {PATH_CHARS_MAX} characters"
            if problem:
                fix = "Use a path under /in, without `..`."
                raise wrong(node.place, key, f"the path {target!r} {problem}", fix, code="bad_path")
            if target in chosen and chosen[target].source != source:
                detail = f"/in/{target} is given twice, by {chosen[target].source.name} and {source.name}"
                raise wrong(node.place, key, detail, "Give one of them another target: `./source:/target`.")
            if target not in chosen and len(chosen) == FILES_MAX:
                detail = f"more than {FILES_MAX} files"
                raise wrong(node.place, key, detail, "Pack small files into one archive.", code="over_limit")
            chosen[target] = chosen.get(target) or LocalFile(source, _reference(source, target, node.place, key))
    return tuple(chosen[target] for target in sorted(chosen))


def _expanded(node: Node, key: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Pairs (path under /in, local file) of one entry, in sorted order."""
    text = scalar(node, key, FILE_FORM)
    source_text, _, target_text = text.partition(":")
    if not source_text or ":" in target_text or (":" in text and not target_text.strip("/")):
        raise wrong(node.place, key, f"expected {FILE_FORM}, found `{text:.80}`", "Write `./source:/target`.")
    if "\0" in text or source_text.startswith(("/", "~")) or ".." in source_text.split("/"):
        fix = "Put the file into the job file's folder, or start the job from a folder above both."
        raise wrong(node.place, key, f"`{source_text:.80}` is outside the job file's folder", fix, code="path_escapes")
    source = folder / source_text
    inside = _inside(source, folder, node.place, key)
    target = (target_text or source_text).removeprefix("/in/").strip("/").removeprefix("./")
    if inside.is_dir():
        base = "" if target in ("", ".") else target + "/"
        yield from ((base + relative, path) for relative, path in _walk(inside, folder, node.place, key))
    else:
        yield (target + "/" + source.name if target_text.endswith("/") else target), inside


def _walk(top: Path, folder: Path, place: Place, key: str) -> Iterator[tuple[str, Path]]:
    for current, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in folders:
            if (Path(current) / name).is_symlink():
                detail = f"{(Path(current) / name).relative_to(top)} is a link to a folder"
                raise wrong(place, key, detail, "Name the real folder in `files`.", code="path_escapes")
        for name in sorted(files):
            path = Path(current) / name
            yield path.relative_to(top).as_posix(), _inside(path, folder, place, key)


def _inside(source: Path, folder: Path, place: Place, key: str) -> Path:
    """The real path behind `source`, which must exist and lie in the folder, links followed."""
    shown = source.relative_to(folder)
    try:
        real = source.resolve(strict=True)
    except FileNotFoundError:
        raise wrong(place, key, f"there is no file {shown}", f"Paths start at {folder}.", code="file_missing") from None
    except (OSError, RuntimeError) as error:
        raise wrong(place, key, f"{shown} cannot be read: {error}", "Check the path.", code="file_missing") from error
    if not real.is_relative_to(folder):
        detail = f"{shown} is a link to {real}, outside the job file's folder"
        raise wrong(place, key, detail, "Copy the file into the folder.", code="path_escapes")
    return real


def _reference(source: Path, target: str, place: Place, key: str) -> FileRef:
    hasher = blake3()
    size = 0
    try:
        mode = source.stat().st_mode
        if not stat.S_ISREG(mode):
            detail = f"{source.name} is no regular file"
            raise wrong(place, key, detail, "Send files and folders only.", code="bad_path")
        with source.open("rb") as stream:
            while piece := stream.read(READ_BYTES):
                hasher.update(piece)
                size += len(piece)
    except OSError as error:
        raise wrong(place, key, f"{source.name} cannot be read: {error.strerror}", "Check its permissions.") from error
    return FileRef(target, Digest(hasher.digest()), size, bool(mode & stat.S_IXUSR))
