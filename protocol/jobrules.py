"""The rules of a job specification that types cannot say. Spec: specs/05-job.md.

`check` is run by whoever lets a specification in: the renter's node, and every provider before it bids.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable
from typing import Final

from msgspec import UNSET

from protocol import trust
from protocol.errors import Refused
from protocol.jobspec import EnvPair, JobSpec, TreeRef
from protocol.proof import Hardware, Proof, Tolerance
from protocol.units import SECOND

RUNTIMES: Final = ("python", "torch", "engines", "wasm")
"""Runtimes known by one word; anything else is `image:<reference>`."""

IMAGE_PREFIX: Final = "image:"

RESERVED_ENV_PREFIX: Final = "SHOAL_"
"""Variables that the sandbox sets itself; a job cannot shadow them."""

COMMIT_ENV: Final = "SHOAL_COMMIT"
"""The one reserved variable that a specification sets: the commit that its `repo` was taken from."""

CODE_MOUNT: Final = "/in"
"""Trees without a volume are laid out here or below."""

VOLUME_MOUNT: Final = "/vol/"
"""A volume is mounted at `/vol/<name>`."""

RESERVED_FOLDER: Final = "chunks"
"""The reduce step finds the outputs of the chunks at `/in/chunks/<i>/`, so inputs may not be there."""

PROOF_FOLDER: Final = ".shoal"
"""Below a job's inputs and outputs, the node's own: opened states, the package of unit programs, a trace."""

RESULT_FOLDER: Final = "result"
"""Below the inputs of a job with a `check`: the output that is looked at."""

MARGIN_MIN: Final = 5
"""t_bad in t_ok, at least: where the two are closer, no tolerance tells an honest machine from a cheat."""

_KEPT_FOLDERS: Final = {
    RESERVED_FOLDER: "holds the outputs for the reduce step",
    PROOF_FOLDER: "belongs to the node",
}

COMPARED_KINDS: Final = ("training", "inference", "rendering", "scientific")
"""Kinds of work for which there is a comparison within a tolerance."""


def broken(pointer: str, detail: str, fix: str, code: str = "bad_spec") -> Refused:
    """The refusal of one place in a specification, named by its JSON pointer."""
    return Refused(f"{pointer or '/'}: {detail}", code=code, fix=fix, numbers={"pointer": pointer})


def path_problem(path: str) -> str:
    """Why this is no relative path inside a job's folders; empty when it is one.

    >>> path_problem("data/a.txt"), path_problem("../secret")
    ('', 'has an empty, "." or ".." part')
    """
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "has a backslash"
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
        return "has a control character"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return 'has an empty, "." or ".." part'
    if any(len(part.encode()) > 255 for part in path.split("/")):
        return "has a part of more than 255 bytes"
    return ""


def check(spec: JobSpec) -> None:
    """Refuse a specification that no provider may run; `numbers["pointer"]` says where it is wrong."""
    _check_runtime(spec)
    _check_files(spec)
    _check_env(spec.env, "/env")
    for index, chunk in enumerate(spec.chunks):
        _check_env(chunk.env, f"/chunks/{index}/env")
    _check_ports(spec)
    _check_trees(spec)
    gpu = spec.resources.gpu
    if gpu.memory_bytes_max and gpu.memory_bytes_max < gpu.memory_bytes_min:
        raise broken(
            "/resources/gpu/memory_bytes_max",
            f"{gpu.memory_bytes_max} is less than the minimum, {gpu.memory_bytes_min}",
            "Give a range from small to large, or 0 for no upper bound.",
        )
    _check_placement(spec)
    _check_checkpoint(spec)
    _check_proof(spec)
    if found := trust.problem(spec):
        raise broken(*found)


def _check_checkpoint(spec: JobSpec) -> None:
    every = spec.protection.every
    if 0 < every < SECOND:
        raise broken(
            "/checkpoint/every", f"{every} µs is less than a second", "Give 1 to 300 s, or 0 to leave it open."
        )
    if every and not spec.protection.is_on:
        raise broken("/checkpoint/every", "an interval makes no sense with snapshots off", "Leave one of them out.")
    if not spec.can_be_saved(0) and spec.checkpoint is not UNSET and spec.protection.is_on:
        fix = "Leave `checkpoint` out: a lost chunk is computed again from its start. Or cut the work into units."
        raise broken("/checkpoint", "there are no snapshots of a WASM module without units", fix)


def _check_proof(spec: JobSpec) -> None:
    proof = spec.proof
    if not isinstance(proof, Proof):
        if spec.numeric == "D3":
            raise broken("/numeric", "a tolerance needs a proof in units", "Give `proof`, or another numeric class.")
        return
    if spec.is_interactive:
        raise broken("/proof", "nobody else can compute a chunk that its renter reaches into", "Leave `proof` out.")
    if proof.kind == "certificate" and not proof.check:
        raise broken("/proof/check", "a certificate is checked by a program", "Give the lines that check a result.")
    for index, line in enumerate(proof.check):
        if "\0" in line or not line.strip():
            raise broken(f"/proof/check/{index}", "a command is empty or has a zero byte", "Remove it.")
    taken = [file.path for file in spec.files if file.path.split("/")[0] == RESULT_FOLDER]
    taken += [tree.mount for tree in spec.mounts if tree.mount.split("/")[2:3] == [RESULT_FOLDER] and not tree.volume]
    if proof.check and taken:
        raise broken("/files", f"{taken[0]!r} is where a check finds the result", "Use another folder.")
    if spec.runtime == "wasm" and len(proof.check) > 1:
        raise broken("/proof/check", "wasm takes one line", "Name module and arguments on one line.")
    _check_tolerance(spec, proof)
    if isinstance(proof.hardware, tuple):
        _check_hardware(proof, proof.hardware)
    if proof.units:
        _check_units(spec)


def _check_tolerance(spec: JobSpec, proof: Proof) -> None:
    tolerance = proof.tolerance
    if spec.numeric != "D3":
        if isinstance(tolerance, Tolerance):
            raise broken("/proof/tolerance", f"{spec.numeric} is exact", "Leave it out, or use numeric D3.")
        return
    if not isinstance(tolerance, Tolerance) or not proof.units:
        raise broken("/proof/tolerance", "D3 compares units within a tolerance", "Give `units` and `tolerance`.")
    if proof.kind not in COMPARED_KINDS:
        raise broken("/proof/kind", f"nothing compares {proof.kind} work", f"D3 is for {', '.join(COMPARED_KINDS)}.")
    if tolerance.t_bad < MARGIN_MIN * tolerance.t_ok:
        raise broken(
            "/proof/tolerance",
            f"t_bad {tolerance.t_bad} is less than {MARGIN_MIN} times t_ok {tolerance.t_ok}",
            "Use a bitwise class for this task: no tolerance tells honest machines from cheats.",
            code="no_margin",
        )


def _check_hardware(proof: Proof, said: tuple[Hardware, ...]) -> None:
    kinds = [one.kind for one in said]
    if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
        raise broken("/proof/hardware", f"{twice} is there twice", "Give each kind of hardware once, with all images.")
    if kinds == ["nvidia"]:
        detail = "a card alone says nothing of the program that feeds it"
        raise broken("/proof/hardware", detail, "Add the machine around it: tdx or sev-snp.")
    for index, one in enumerate(said):
        if len(set(one.images)) < len(one.images):
            raise broken(f"/proof/hardware/{index}/images", "an image is there twice", "Give each image once.")
        if one.kind == "nvidia" and one.versions:
            detail = "a card's report has no security versions"
            raise broken(f"/proof/hardware/{index}/versions", detail, "Leave them out: its image says all.")
    if proof.kind == "certificate":
        detail = "every certificate is checked, so there is no audit to spare"
        raise broken("/proof/hardware", detail, "Leave `hardware` out.")


def _check_units(spec: JobSpec) -> None:
    if spec.runtime == "python":
        raise broken("/runtime", "a unit program needs NumPy", "Use runtime torch, an image with NumPy, or wasm.")
    if any(tree.is_writable for tree in spec.mounts):
        raise broken("/trees", "what a unit program writes is its states", "Mount volumes read-only.")


def _check_placement(spec: JobSpec) -> None:
    where = spec.where
    if where.is_strict and not where.latency_ms_max:
        raise broken(
            "/placement/is_strict",
            "there is no latency to be strict about",
            "Give latency_ms_max, or leave strict out.",
        )
    for index, region in enumerate(where.regions):
        if not region:
            raise broken(f"/placement/regions/{index}", "a region has no name", "Write a region such as eu-west.")
        if region in where.regions[:index]:
            raise broken(f"/placement/regions/{index}", f"{region!r} is there twice", "Name each region once.")


def _check_runtime(spec: JobSpec) -> None:
    is_image = spec.runtime.startswith(IMAGE_PREFIX) and len(spec.runtime) > len(IMAGE_PREFIX)
    if not is_image and spec.runtime not in RUNTIMES:
        choice = f"{', '.join(RUNTIMES)} or {IMAGE_PREFIX}<reference>"
        raise broken("/runtime", f"there is no runtime {spec.runtime!r}", f"Use {choice}.")
    if any(letter.isspace() or not letter.isprintable() for letter in spec.runtime):
        raise broken("/runtime", "a runtime has no spaces", "Write the image's reference as `docker pull` takes it.")
    if not spec.commands:
        raise broken("/commands", "there is nothing to run", "Give at least one command.")
    for field, lines in (("commands", spec.commands), ("reduce", spec.reduce)):
        for index, line in enumerate(lines):
            if "\0" in line or not line.strip():
                raise broken(f"/{field}/{index}", "a command is empty or has a zero byte", "Remove it.")
    if spec.runtime == "wasm":
        _check_wasm(spec)


def _check_ports(spec: JobSpec) -> None:
    if spec.is_interactive and spec.runtime == "wasm":
        field = "ports" if spec.ports else "shell"
        raise broken(f"/{field}", "a WASM module has no sockets and no shell", "Use another runtime, or leave it out.")
    for index, port in enumerate(spec.ports):
        if port in spec.ports[:index]:
            raise broken(f"/ports/{index}", f"port {port} is there twice", "Name every port once.")
    if spec.is_interactive and spec.audit_ppm:
        field = "audit_ppm"
        raise broken(
            f"/{field}",
            "a chunk that its renter can reach into gives an output that nobody else can compute again",
            "Say `audit: 0` with `ports` or `shell`.",
        )


def _check_trees(spec: JobSpec) -> None:
    seen: set[str] = set()
    for index, tree in enumerate(spec.mounts):
        pointer = f"/trees/{index}"
        if problem := mount_problem(tree.mount, tree.volume):
            raise broken(f"{pointer}/mount", f"{tree.mount!r:.200} {problem}", "Mount it at /vol/<name>.", "bad_path")
        if tree.mount in seen:
            raise broken(f"{pointer}/mount", f"{tree.mount} is there twice", "Give every tree its own place.")
        if tree.volume and spec.runtime == "wasm":
            raise broken(pointer, "a WASM module sees /in and /out only", "Use another runtime, or `files`.")
        if tree.is_writable:
            _check_writable(spec, tree, pointer)
        seen.add(tree.mount)


def _check_writable(spec: JobSpec, tree: TreeRef, pointer: str) -> None:
    if not tree.volume:
        raise broken(f"{pointer}/is_writable", "code is read-only", "Leave it out.")
    if len(spec.chunks) > 1 or spec.reduce:
        detail = f"{len(spec.chunks)} chunks and a reduce step" if spec.reduce else f"{len(spec.chunks)} chunks"
        fix = "Write to a volume from a job of one chunk without `reduce`: several would each make a version."
        raise broken(f"{pointer}/is_writable", f"{detail} cannot write to one volume", fix)
    if tree.size > spec.resources.disk_bytes:
        raise broken(
            f"{pointer}/is_writable",
            f"the volume has {tree.size} bytes, the chunk may write {spec.resources.disk_bytes}",
            "Raise resources.disk.",
        )


def mount_problem(mount: str, volume: str) -> str:
    """Why a tree cannot be there; empty when it can.

    >>> mount_problem("/vol/data", "data"), mount_problem("/etc", "data")
    ('', 'is not /vol/<name>')
    """
    if volume:
        name = mount.removeprefix(VOLUME_MOUNT)
        is_name = mount.startswith(VOLUME_MOUNT) and "/" not in name
        return path_problem(name) if is_name else "is not /vol/<name>"
    if mount == CODE_MOUNT:
        return ""
    if not mount.startswith(CODE_MOUNT + "/"):
        return "is not below /in"
    path = mount.removeprefix(CODE_MOUNT + "/")
    top = path.split("/")[0]
    return f"is kept: it {_KEPT_FOLDERS[top]}" if top in _KEPT_FOLDERS else path_problem(path)


def _check_wasm(spec: JobSpec) -> None:
    if spec.numeric != "D0":
        raise broken("/numeric", "WASM is exact on every machine", "Use numeric D0 with runtime wasm.")
    paths = {file.path for file in spec.files}
    for field, lines in (("commands", spec.commands), ("reduce", spec.reduce)):
        if len(lines) > 1:
            raise broken(
                f"/{field}", f"wasm takes one line, not {len(lines)}", "Name module and arguments on one line."
            )
        module = _module(lines[0], field) if lines else ""
        if lines and module not in paths and not spec.mounts:  # What is in a tree is seen when it is laid out.
            raise broken(f"/{field}/0", f"the module {module!r} is not among the files", "Add it to `files`.")


def _module(line: str, field: str) -> str:
    """The module's path: the first word of the line, quotes as in a shell."""
    try:
        return shlex.split(line)[0]
    except (ValueError, IndexError) as error:
        raise broken(f"/{field}/0", f"{line!r:.80} cannot be split into words: {error}", "Close the quote.") from error


def _check_files(spec: JobSpec) -> None:
    seen: set[str] = set()
    for index, file in enumerate(spec.files):
        pointer = f"/files/{index}/path"
        problem = path_problem(file.path)
        if problem:
            raise broken(pointer, f"{file.path!r} {problem}", "Use a relative path without `..`.", code="bad_path")
        top = file.path.split("/")[0]
        if top in _KEPT_FOLDERS:
            raise broken(pointer, f"/in/{top}/ {_KEPT_FOLDERS[top]}", "Use another folder.")
        if file.path in seen:
            raise broken(pointer, f"{file.path!r} is there twice", "Give every file its own path.")
        seen.add(file.path)
    for index, file in enumerate(spec.files):
        clash = next((parent for parent in _parents(file.path) if parent in seen), None)
        if clash is not None:
            raise broken(f"/files/{index}/path", f"{clash!r} is a file and a folder at once", "Rename one of them.")


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _check_env(pairs: tuple[EnvPair, ...], pointer: str) -> None:
    seen: set[str] = set()
    for index, (name, value) in enumerate(pairs):
        if name in seen:
            raise broken(f"{pointer}/{index}/0", f"the variable {name} is set twice", "Set it once.")
        if name.startswith(RESERVED_ENV_PREFIX) and name != COMMIT_ENV:
            raise broken(
                f"{pointer}/{index}/0", f"{name} is set by the sandbox", f"Do not begin with {RESERVED_ENV_PREFIX}."
            )
        if "\0" in value:
            raise broken(f"{pointer}/{index}/1", f"the value of {name} has a zero byte", "Put binary data in a file.")
        seen.add(name)
