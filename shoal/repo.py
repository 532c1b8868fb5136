"""`repo:` of a job file: the wanted files of a Git repository or of a local folder, by content, with their commit.

Few plain files travel as the job's files; more than 2048, or links and empty folders among them, as one tree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from node.volumes import folders
from node.volumes.folders import Care, Found
from protocol.errors import Refused
from protocol.jobrules import CODE_MOUNT, RESERVED_FOLDER, path_problem
from protocol.jobspec import FILES_MAX, FileRef, TreeRef
from protocol.units import GIB, MIB, Digest
from protocol.yaml_nodes import Node, Pairs, wrong
from protocol.yaml_values import pairs, word
from shoal import git_tree
from shoal.job_inputs import SKIPPED_FOLDERS, LocalFile
from storage import pieces, trees
from storage.trees import Piece

KEYS: Final = frozenset(["url", "ref", "path", "at"])

REPO_FORM: Final = "a Git address such as https://github.com/org/code@v1, or a folder"

REPO_BYTES_MAX: Final = 4 * GIB
"""Of all files: code, not data; data belongs into a volume."""

FILE_BYTES_MAX: Final = 256 * MIB
"""One file of a repository that travels by itself; larger ones go in pieces, with the whole as a tree."""

HERE: Final = "."

CARE: Final = Care(is_plain=True, skipped=SKIPPED_FOLDERS)
"""The same commit is the same tree whoever checks it out."""

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SCP: Final = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)[^\s]+")
_REF: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job file asks for."""

    address: str
    ref: str
    path: str
    at: str
    """Below /in; `.` = /in itself."""

    @property
    def is_remote(self) -> bool:
        """Whether git has to fetch it, from a network or from the repository of a local folder."""
        return bool(_SCHEME.match(self.address) or _is_scp(self.address) or self.ref)


@dataclass(frozen=True, slots=True)
class Code:
    """Files that go with a job."""

    files: tuple[LocalFile, ...]
    """For the specification."""
    trees: tuple[TreeRef, ...]
    blobs: tuple[LocalFile, ...]
    """Lists and pieces of trees: uploaded, but no files of the specification."""
    commit: str
    notes: tuple[str, ...]
    """What the renter should know."""


def read_repo(node: Node, key: str, folder: Path, cache: Path) -> Code:
    """Fetch what `repo:` names. Refused at its place in the job file, with the numbers for what is too large."""
    wanted = _wanted(node, key)
    try:
        return _code(wanted, folder, cache)
    except Refused as error:
        raise wrong(node.place, key, error.detail, error.fix, code=error.code) from error


def _code(wanted: Wanted, folder: Path, cache: Path) -> Code:
    notes: list[str] = []
    if wanted.is_remote:
        got = git_tree.export(_url(wanted.address, folder), wanted.ref, wanted.path, cache / "repos")
        top, commit, names = got.folder, got.commit, None
        notes += [f"{name} is a submodule and is not followed" for name in got.submodules]
    else:
        top = _local(wanted, folder)
        listed = git_tree.work_tree_files(top)
        names, commit = listed if listed is not None else (None, "")
    found = folders.listed(top, CARE) if names is None else folders.named(top, names, CARE)
    _check_size(found, wanted.address)
    pointers = [item.path for item in found if item.is_file and git_tree.is_lfs_pointer(top / item.path)]
    if pointers:
        fix = "Put the real files into a volume or into `files`; Git LFS is not fetched."
        detail = f"{len(pointers)} files are Git LFS pointers, such as {pointers[0]}"
        raise Refused(detail, code="lfs_pointer", fix=fix)
    files = [item for item in found if item.is_file]
    is_plain = len(files) <= FILES_MAX and all(item.size <= FILE_BYTES_MAX for item in files)
    if is_plain and not any(item.target for item in found):
        return Code(tuple(_file(top, item, wanted.at) for item in files), (), (), commit, tuple(notes))
    tree, blobs = packed(top, found, cache / "pieces", wanted.at)
    return Code((), (tree,), blobs, commit, tuple(notes))


def packed(top: Path, found: Sequence[Found], cache: Path, at: str) -> tuple[TreeRef, tuple[LocalFile, ...]]:
    """One tree of many files: its reference, and the blobs to upload, which are kept in `cache`."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    blobs: dict[bytes, LocalFile] = {}

    def keep(data: bytes) -> Digest:
        digest = Digest(blake3(data).digest())
        path = cache / digest.hex()
        if not path.is_file() or path.stat().st_size != len(data):
            beside = path.with_suffix(".part")
            beside.write_bytes(data)
            beside.replace(path)
        blobs[digest] = LocalFile(path, FileRef(digest.hex(), digest, len(data)))
        return digest

    made = [Piece(keep(piece), len(piece)) for piece in pieces.pieces(folders.contents(top, found))]
    tree = folders.tree_of(found, made)
    data = trees.encode(tree)
    digest = keep(data)
    return TreeRef(_mount(at), digest, len(data), tree.size), tuple(blobs.values())


def _wanted(node: Node, key: str) -> Wanted:
    if not isinstance(node, Pairs):
        address, ref = _split(word(node, key, REPO_FORM))
        return _checked(Wanted(address, ref, "", _name(address)), node, key)
    said = pairs(node, key, KEYS)
    if "url" not in said:
        fix = f"Add `url:`, {REPO_FORM}."
        raise wrong(node.place, f"{key}.url", "expected an address, found nothing", fix, code="missing_key")
    values = {name: word(value, f"{key}.{name}", REPO_FORM) for name, value in said.items()}
    address, ref = _split(values["url"])
    if ref and "ref" in values:
        raise wrong(said["ref"].place, f"{key}.ref", f"`url` names {ref!r} already", "Keep one of them.")
    path = values.get("path", "").strip("/").removeprefix("./")
    path = "" if path == HERE else path
    at = values.get("at", path.rpartition("/")[2] or _name(address)).removeprefix("/in/").strip("/") or HERE
    return _checked(Wanted(address, values.get("ref", ref), path, at), node, key)


def _checked(wanted: Wanted, node: Node, key: str) -> Wanted:
    problem = ""
    if wanted.address.startswith("-") or not wanted.address.isprintable() or " " in wanted.address:
        problem = f"`{wanted.address[:80]}` is no address"
    elif wanted.ref and (not _REF.fullmatch(wanted.ref) or ".." in wanted.ref):
        problem = f"`{wanted.ref[:80]}` is no branch, tag or commit"
    elif wanted.path and path_problem(wanted.path):
        problem = f"path `{wanted.path[:80]}` {path_problem(wanted.path)}"
    elif wanted.at != HERE and path_problem(wanted.at):
        problem = f"at `{wanted.at[:80]}` {path_problem(wanted.at)}"
    elif wanted.at.split("/")[0] == RESERVED_FOLDER:
        problem = f"/in/{RESERVED_FOLDER} is kept for the outputs that the reduce step reads"
    if problem:
        raise wrong(node.place, key, problem, f"Write {REPO_FORM}.", code="bad_repo")
    return wanted


def _split(text: str) -> tuple[str, str]:
    """Address and reference: what stands behind the last `@` of the last part.

    >>> _split("https://me@host/code.git@v1"), _split("git@host:code.git"), _split("./code@main")
    (('https://me@host/code.git', 'v1'), ('git@host:code.git', ''), ('./code', 'main'))
    """
    head, mark, ref = text.rpartition("@")
    if not mark or "/" in ref or ":" in ref or not ref:
        return text, ""
    return head, ref


def _name(address: str) -> str:
    """Where it goes unless said: the repository's name; `.` for the folder of the job file itself.

    >>> _name("https://github.com/org/code.git"), _name(".")
    ('code', '.')
    """
    last = re.split(r"[/:]", address.rstrip("/"))[-1].removesuffix(".git")
    return last if last not in ("", HERE, "..", "~") else HERE


def _is_scp(address: str) -> bool:
    """`user@host:path`, which git takes as ssh; a path with a colon behind a slash is none."""
    return bool(_SCP.fullmatch(address)) and "/" not in address.partition(":")[0] and not address.startswith(".")


def _url(address: str, folder: Path) -> str:
    if _SCHEME.match(address) or _is_scp(address):
        return address
    return _resolved(address, folder).as_uri()


def _local(wanted: Wanted, folder: Path) -> Path:
    top = _resolved(wanted.address, folder)
    inside = (top / wanted.path).resolve()
    if not inside.is_dir() or not inside.is_relative_to(top):
        fix = "Check `path`: it is a folder below the repository."
        raise Refused(f"{top} has no folder {wanted.path!r:.200}", code="no_such_path", fix=fix)
    return inside


def _resolved(address: str, folder: Path) -> Path:
    top = (folder / Path(address).expanduser()).resolve()
    if not top.is_dir():
        fix = f"Paths start at {folder}; a Git address begins with https://, ssh:// or file://, or is host:path."
        raise Refused(f"there is no folder {top}", code="no_such_path", fix=fix)
    return top


def _check_size(found: Sequence[Found], address: str) -> None:
    total = sum(item.size for item in found)
    if total > REPO_BYTES_MAX:
        largest = max(found, key=lambda item: item.size)
        detail = f"{address} has {total} bytes of files, {REPO_BYTES_MAX} are allowed; the largest is {largest.path}"
        fix = f"It has {largest.size} bytes: take a subfolder with `path`, or put data into a volume."
        raise Refused(detail, code="over_limit", fix=fix, numbers={"found": total, "limit": REPO_BYTES_MAX})
    if not any(item.is_file for item in found):
        raise Refused(f"{address} has no files", code="no_such_path", fix="Commit some, or check `path`.")


def _file(top: Path, item: Found, at: str) -> LocalFile:
    hasher, size = blake3(), 0
    with (top / item.path).open("rb") as stream:
        while part := stream.read(MIB):
            hasher.update(part)
            size += len(part)
    target = item.path if at == HERE else f"{at}/{item.path}"
    is_program = bool(item.mode & folders.PROGRAM_BITS)
    return LocalFile(top / item.path, FileRef(target, Digest(hasher.digest()), size, is_program))


def _mount(at: str) -> str:
    return CODE_MOUNT if at == HERE else f"{CODE_MOUNT}/{at}"
