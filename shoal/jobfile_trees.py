"""How `repo` and `volumes` of a job file are read: code by content, and volumes by the names that their owner gave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import UNSET, UnsetType

from protocol import yaml_values
from protocol.jobrules import COMMIT_ENV, VOLUME_MOUNT, mount_problem
from protocol.jobspec import FILES_MAX, TREES_MAX, ZERO_DIGEST, EnvPair, TreeRef
from protocol.yaml_nodes import Node, Pairs, wrong
from shoal import jobfile_schema as schema
from shoal.job_inputs import LocalFile

VOLUME_KEYS: Final = frozenset(["mount", "version", "write"])

VOLUMES_FORM: Final = "a map such as {data: /vol/data}"
MOUNT_FORM: Final = "a place such as /vol/data"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a chunk finds in its sandbox."""

    files: tuple[LocalFile, ...]
    """Those of the specification, sorted by path."""
    blobs: tuple[LocalFile, ...]
    """What must be uploaded besides."""
    trees: tuple[TreeRef, ...] | UnsetType
    env: tuple[EnvPair, ...]
    notes: tuple[str, ...]


def read_inputs(
    top: Mapping[str, Node], files: tuple[LocalFile, ...], env: tuple[EnvPair, ...], folder: Path, cache: Path | None
) -> Inputs:
    """`files` with what `repo` and `volumes` add. Without a cache, nothing may be fetched and `repo` is refused."""
    mounts = read_volumes(top["volumes"], "volumes") if "volumes" in top else ()
    if "repo" not in top:
        return Inputs(files, (), mounts or UNSET, env, ())
    node = top["repo"]
    if cache is None:
        fix = "Send the specification with the files uploaded, or use `shoal job submit` where the code is."
        raise wrong(node.place, "repo", "a job file from elsewhere cannot name code", fix, code="bad_job_file")
    from shoal.repo import read_repo

    code = read_repo(node, "repo", folder, cache)
    merged = {file.ref.path: file for file in code.files}
    for file in files:
        if file.ref.path in merged:
            detail = f"/in/{file.ref.path} comes from `files` and from `repo`"
            raise wrong(node.place, "repo", detail, "Give the repository another place: `repo: {url: …, at: code}`.")
        merged[file.ref.path] = file
    if len(merged) > FILES_MAX:
        detail = f"{len(code.files)} files of the repository and {len(files)} others, at most {FILES_MAX} in all"
        raise wrong(node.place, "repo", detail, "Take a subfolder with `path`.", code="over_limit")
    if code.commit:
        env = (*env, (COMMIT_ENV, code.commit))
    listed = tuple(merged[path] for path in sorted(merged))
    return Inputs(listed, code.blobs, (*code.trees, *mounts) or UNSET, env, code.notes)


def read_volumes(node: Node, key: str) -> tuple[TreeRef, ...]:
    """Volumes by name. Which version that is, the node says that keeps them: digest and sizes are still empty."""
    if not isinstance(node, Pairs):
        raise yaml_values.mismatch(node, key, VOLUMES_FORM)
    if len(node.values) >= TREES_MAX:
        raise yaml_values.mismatch(node, key, f"at most {TREES_MAX - 1} volumes")
    return tuple(_volume(name.text, value, f"{key}.{name.text:.64}") for name, value in node.values)


def _volume(name: str, node: Node, key: str) -> TreeRef:
    if not _NAME.fullmatch(name):
        fix = "Use a-z, 0-9, dot, dash and underscore, up to 64 of them."
        raise wrong(node.place, key, f"{name[:80]!r} is no name of a volume", fix, code="bad_value")
    version, is_writable = "", False
    mount_node: Node = node
    if isinstance(node, Pairs):
        said = yaml_values.pairs(node, key, VOLUME_KEYS)
        if "mount" not in said:
            fix = f"Add `mount: {VOLUME_MOUNT}{name}`."
            raise wrong(node.place, f"{key}.mount", f"expected {MOUNT_FORM}, found nothing", fix, code="missing_key")
        mount_node = said["mount"]
        if "version" in said:
            version = yaml_values.word(said["version"], f"{key}.version", "a version's number or a snapshot's name")
        is_writable = schema.switch(said["write"], f"{key}.write") if "write" in said else False
        if is_writable and version:
            fix = "Leave `version` out: what is written becomes the version behind the newest."
            raise wrong(said["version"].place, f"{key}.version", "an old version cannot be written to", fix)
        if version and not _NAME.fullmatch(version):
            raise yaml_values.mismatch(said["version"], f"{key}.version", "a version's number or a snapshot's name")
    mount = yaml_values.word(mount_node, key, MOUNT_FORM).rstrip("/")
    if problem := mount_problem(mount, name):
        fix = f"Volumes are mounted at {VOLUME_MOUNT}<name>: write {VOLUME_MOUNT}{name}."
        raise wrong(mount_node.place, key, f"{mount[:80]!r} {problem}", fix, code="bad_path")
    return TreeRef(mount, ZERO_DIGEST, 1, 0, f"{name}@{version}" if version else name, is_writable)
