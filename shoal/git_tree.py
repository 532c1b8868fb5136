"""What git is asked: which commit a reference is, and only the wanted files of it, kept for the next time.

A repository is a stranger: no hooks, no submodules, no smudge filters, no prompts, no protocols that run programs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.errors import Refused, Unavailable

PROTOCOLS: Final = "http:https:ssh:git:file"
"""What git may fetch with; `ext::` and other helpers run programs."""

GIT_S: Final = 900.0
"""Seconds that one git command may take: a gigabyte over 10 Mbit/s."""

EXPORTS_MAX: Final = 16
"""Exported trees that are kept per repository; the one that was not used for longest goes first."""

COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LFS_HEAD: Final = b"version https://git-lfs.github.com/spec/"
LFS_BYTES_MAX: Final = 1024
"""A pointer is a few lines."""

_QUIET: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false",
                 "-c", "advice.detachedHead=false", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.process=",
                 "-c", "filter.lfs.required=false", "-c", "gc.auto=0", "-c", "submodule.recurse=false")  # fmt: skip
_DENIED: Final = ("authentication failed", "could not read username", "permission denied", "terminal prompts disabled",
                  "host key verification failed", "repository not found", "403", "401")  # fmt: skip
_NO_REF: Final = ("couldn't find remote ref", "not our ref", "no such ref", "unadvertised object")


@dataclass(frozen=True, slots=True)
class Exported:
    """Files of one commit, on this disk, read-only by agreement."""

    commit: str
    folder: Path
    submodules: tuple[str, ...]
    """Paths of submodules within what was asked for: they are not followed."""


def export(url: str, ref: str, path: str, cache: Path) -> Exported:
    """The files below `path` of a reference ('' = the default branch). What is in the cache is not fetched again.

    Refused: `no_git`, `bad_repo`, `no_such_ref`, `repo_denied`, `no_such_path`; Unavailable: `repo_unreachable`."""
    _require_git()
    home = cache / blake3(url.encode()).hexdigest(16)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _export(url, ref, path, home)


def _export(url: str, ref: str, path: str, home: Path) -> Exported:
    """The same, while nobody else uses this repository's cache."""
    store = home / "git"
    if not (store / "HEAD").exists():
        _git(["init", "--quiet", "--bare", str(store)])
        _git(["config", "remote.origin.url", url], store)
        _git(["config", "remote.origin.promisor", "true"], store)
        _git(["config", "remote.origin.partialclonefilter", "blob:none"], store)
    commit = ref if COMMIT.fullmatch(ref) else ""
    known = home / "trees" / f"{commit}-{blake3(path.encode()).hexdigest(8)}"
    if not (commit and known.is_dir()):
        commit = _fetched(url, ref, store)
        known = home / "trees" / f"{commit}-{blake3(path.encode()).hexdigest(8)}"
    submodules = _listed(store, commit, path, url)
    if not known.is_dir():
        _check_out(store, commit, path, known)
    os.utime(known)
    _forget_old(home / "trees")
    return Exported(commit, known / path if path else known, submodules)


def work_tree_files(folder: Path) -> tuple[list[str], str] | None:
    """Files of a work tree that git does not ignore, relative to `folder`, and its commit (`-dirty` when files differ
    from it); None when the folder is in no work tree, or there is no git."""
    if shutil.which("git") is None:
        return None
    if _try(["rev-parse", "--is-inside-work-tree"], folder) != "true":
        return None
    listed = _git(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."], cwd=folder)
    names = sorted({name for name in listed.split("\0") if name and _is_entry(folder / name)})
    commit = _try(["rev-parse", "--verify", "--quiet", "HEAD"], folder)
    is_dirty = bool(commit) and bool(_try(["status", "--porcelain", "--", "."], folder))
    return names, f"{commit}-dirty" if is_dirty else commit


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer instead of its content."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LFS_BYTES_MAX:
        return False
    with path.open("rb") as stream:
        return stream.read(len(LFS_HEAD)) == LFS_HEAD


def _is_entry(path: Path) -> bool:
    """A tracked file that was deleted is listed all the same; a folder here is a repository within."""
    return path.is_symlink() or path.is_file()


def _fetched(url: str, ref: str, store: Path) -> str:
    """Fetch the newest commit of a reference, without files; its id."""
    wanted = ref or "HEAD"
    try:
        _git(["fetch", "--quiet", "--no-tags", "--depth", "1", "--filter=blob:none", "--", "origin", wanted], store)
    except Refused as error:
        raise _explained(error, url, ref) from error
    return _git(["rev-parse", "--verify", "FETCH_HEAD^{commit}"], store).strip()


def _listed(store: Path, commit: str, path: str, url: str) -> tuple[str, ...]:
    """The submodules below a path. Refused (`no_such_path`) when the commit has nothing there."""
    spec = ["--", path] if path else []
    lines = [line for line in _git(["ls-tree", "-z", "-r", commit, *spec], store).split("\0") if line]
    if not lines:
        detail = f"{url} has no files below {path or 'its root'!r} at {commit[:12]}"
        raise Refused(detail, code="no_such_path", fix="Check `path`, and that it is a folder.")
    heads = [line.partition("\t") for line in lines]
    if path and any(name == path for _, _, name in heads):
        raise Refused(f"{path!r} is a file", code="no_such_path", fix="Give the folder that it is in as `path`.")
    return tuple(name for head, _, name in heads if head.startswith("160000 "))


def _check_out(store: Path, commit: str, path: str, folder: Path) -> None:
    """Write the wanted files, all missing contents fetched in one go; the folder appears whole or not at all."""
    beside = folder.with_name(folder.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    index = store / f"index-{folder.name}"
    patterns = store / "info" / "sparse-checkout"
    patterns.parent.mkdir(exist_ok=True)
    escaped = re.sub(r"([\\*?\[\]!#])", r"\\\1", path)
    patterns.write_text(f"/{escaped}/\n" if path else "/*\n", encoding="utf-8")
    words = ["-c", "core.bare=false", "-c", "core.sparseCheckout=true", "-c", "core.symlinks=true"]
    try:
        _git([*words, f"--work-tree={beside}", "read-tree", "-m", "-u", commit], store, {"GIT_INDEX_FILE": str(index)})
        beside.rename(folder)
    finally:
        index.unlink(missing_ok=True)
        shutil.rmtree(beside, ignore_errors=True)


def _forget_old(trees: Path) -> None:
    kept = sorted(trees.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in kept[EXPORTS_MAX:]:
        shutil.rmtree(folder, ignore_errors=True)


def _explained(error: Refused, url: str, ref: str) -> Refused | Unavailable:
    """What git's words mean for whoever wrote the job file."""
    words = error.detail.lower()
    if any(sign in words for sign in _NO_REF):
        fix = "Name a branch, a tag, or a full commit id that the server hands out."
        return Refused(f"{url} has no {ref or 'default branch'!r}", code="no_such_ref", fix=fix)
    if any(sign in words for sign in _DENIED):
        fix = (
            "Try `git ls-remote` with the address: git must get in without asking (a credential helper or an ssh key)."
        )
        return Refused(f"{url} does not exist, or does not let you in", code="repo_denied", fix=fix)
    if "could not resolve" in words or "unable to access" in words or "connection" in words or "timed out" in words:
        fix = "Check the address and your network."
        return Unavailable(f"{url} cannot be reached: {error.detail[-200:]}", code="repo_unreachable", fix=fix)
    fix = "Give an address that `git clone` takes, or a folder."
    return Refused(f"{url} is no repository that git can read: {error.detail[-200:]}", code="bad_repo", fix=fix)


def _require_git() -> None:
    if shutil.which("git") is None:
        fix = "Install git, or name files with `files`."
        raise Refused("there is no `git` on this machine", code="no_git", fix=fix)


def _try(words: list[str], folder: Path) -> str:
    """The first line of a question that may fail."""
    try:
        return _git(words, cwd=folder).strip()
    except Refused:
        return ""


def _git(
    words: list[str], store: Path | None = None, more: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    place = [f"--git-dir={store}"] if store is not None else []
    command = ["git", *_QUIET, *place, *words]
    try:
        done = subprocess.run(
            command, cwd=cwd, env=_environment() | (more or {}), capture_output=True, stdin=subprocess.DEVNULL,
            timeout=GIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        fix = "Try again; what has come so far is kept."
        raise Unavailable(f"git took longer than {GIT_S:g} s", code="repo_unreachable", fix=fix) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Refused(said or f"git ended with {done.returncode}", code="bad_repo")
    return done.stdout.decode("utf-8", "surrogateescape")


def _environment() -> dict[str, str]:
    """The user's own, so that keys and helpers work, without what would point git elsewhere or let it ask."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for name in ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL"):
        if name in os.environ:
            kept[name] = os.environ[name]
    kept.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    return kept | {
        "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": PROTOCOLS, "LC_ALL": "C.UTF-8", "LANGUAGE": "C",
    }  # fmt: skip
