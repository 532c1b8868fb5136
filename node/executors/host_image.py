"""A small root file system made of this host's own files, without any registry: for the Docker engine and for runc.

It holds a shell, the usual tools, what they link to and, where the interpreter lies below /usr, Python itself. A
runtime elsewhere (pyenv, a venv) is not copied: the sandbox shows its folders read-only at their own paths.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from blake3 import blake3

from node.executors.elf import wants
from node.runtimes import Runtime
from protocol.errors import Refused

RECIPE: Final = 4
"""Raised when the content of the image changes for the same host, so that old images are not taken for new ones."""

LDD_SECONDS: Final = 60
"""ldd over thirty files takes a fifth of a second."""

TOOLS: Final = (
    "sh", "bash", "[", "awk", "b2sum", "base64", "basename", "cat", "chmod", "cmp", "comm", "cp", "cut", "date", "dd",
    "df", "diff", "dirname", "du", "echo", "env", "expr", "false", "find", "fold", "grep", "gunzip", "gzip", "head",
    "id", "join", "kill", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mktemp", "mv", "nice", "nproc", "od", "paste",
    "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sha256sum", "sleep", "sort", "split",
    "stat", "stty", "sync", "tac", "tail", "tar", "tee", "test", "timeout", "touch", "tr", "true", "tty", "uname",
    "uniq", "wc", "which", "xargs", "yes",
)  # fmt: skip
"""What job scripts expect of a Unix; the same programs as in the other tiers."""

LIBRARIES: Final = (
    "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1",
    "libresolv.so.2", "libz.so.1", "libgomp.so.1",
)  # fmt: skip
"""What wheels of numeric libraries link to besides the C library (manylinux policy, PEP 600)."""

DRAWING: Final = (
    "libGL.so.1", "libICE.so.6", "libSM.so.6", "libX11.so.6", "libXext.so.6", "libXfixes.so.3", "libXi.so.6",
    "libXrender.so.1", "libXt.so.6", "libxkbcommon.so.0",
)  # fmt: skip
"""What Blender as a module links to, where the host has it; nothing is drawn with these without a display."""

_LEFT_OUT: Final = frozenset({"__pycache__", "test", "tests", "idlelib", "turtledemo", "ensurepip"})
_FOLDERS: Final = (
    "in", "out", "snap", "checkpoint", "tmp", "proc", "sys", "dev", "run/shoal", "etc", "usr/bin", "usr/lib",
)  # fmt: skip


def image_name(runtime: Runtime) -> str:
    """The tag of the image for a runtime: one per recipe, runtime and place of the interpreter."""
    parts = (str(RECIPE), runtime.digest.hex(), str(runtime.interpreter))
    return f"shoal-host:{blake3(chr(0).join(parts).encode()).hexdigest(8)}"


def build(runtime: Runtime, folder: Path) -> Path:
    """The root file system for a runtime below `folder`, made now or earlier. Blocks for about a second."""
    target = folder / image_name(runtime).replace(":", "-")
    if target.is_dir():
        return target
    partial = target.with_suffix(f".{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    partial.chmod(0o755)
    for name in _FOLDERS:
        (partial / name).mkdir(parents=True, exist_ok=True)
    (partial / "tmp").chmod(0o1777)  # runc gives the mounted /tmp the mode of the folder below it.
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (partial / name).symlink_to(Path("/", name).readlink())
            (partial / "usr" / name).mkdir(exist_ok=True)
    programs = [Path(found) for name in TOOLS if (found := shutil.which(name, path="/usr/bin:/bin"))]
    for program in programs:
        _copy(program, partial)
    python = list(_python(runtime))
    for path in python:
        _copy(path, partial)
    binaries = [*programs, *([runtime.interpreter] if runtime.interpreter else []), *_extensions(runtime)]
    for library in _closure([path.resolve() for path in binaries]):
        _copy(library, partial)
    (partial / "etc" / "passwd").write_text("root:x:0:0::/:/bin/false\njob:x:1000:1000::/tmp:/bin/sh\n")
    (partial / "etc" / "group").write_text("root:x:0:\njob:x:1000:\n")
    partial.rename(target)
    return target


def pack(root: Path, target: IO[bytes]) -> None:
    """Write a root file system as a tar that the engine imports; everything belongs to root there."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(fileobj=target, mode="w|") as archive:
        archive.add(root, arcname=".", filter=owned)


def _python(runtime: Runtime) -> Iterator[Path]:
    """The files of a Python below /usr; nothing for one elsewhere."""
    if not runtime.interpreter or runtime.base_prefix != Path("/usr"):
        return
    yield Path(f"/usr/bin/python{runtime.python}")
    for top in (f"/usr/lib/python{runtime.python}", "/usr/lib/python3", f"/usr/local/lib/python{runtime.python}"):
        for root, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in _LEFT_OUT]
            yield from (Path(root, name) for name in names if not name.endswith(".a"))


def _extensions(runtime: Runtime) -> list[Path]:
    if not runtime.base_prefix:
        return []
    return sorted((runtime.base_prefix / "lib" / f"python{runtime.python}" / "lib-dynload").glob("*.so"))


def _closure(binaries: Iterable[Path]) -> set[Path]:
    """Every shared library that the binaries link to, the loader, and LIBRARIES where the host has them."""
    found = _linked(binaries)
    folders = {library.parent for library in found}
    extra = [folder / name for folder in folders for name in (*LIBRARIES, *DRAWING) if (folder / name).exists()]
    return found | set(extra) | _linked(path.resolve() for path in extra)


def _linked(binaries: Iterable[Path]) -> set[Path]:
    """What ldd says of one of each kind: it starts several processes per file, and most tools link to the same."""
    kinds = {wants(path) or path: path for path in binaries}
    answer = subprocess.run(
        ["ldd", *(str(path) for path in kinds.values())], capture_output=True, text=True, timeout=LDD_SECONDS
    )
    if not answer.stdout:
        raise Refused(
            f"ldd does not work here: {answer.stderr.strip()[:200]}", code="no_image", fix="Install libc-bin."
        )
    words = (word for line in answer.stdout.splitlines() for word in line.split() if not line.endswith(":"))
    return {Path(word) for word in words if word.startswith("/") and Path(word).is_file()}


def _copy(source: Path, root: Path) -> None:
    """Copy the content of a file to its own path below `root`, through the root's own links (lib -> usr/lib)."""
    parent = Path(os.path.realpath(source.parent))
    target = root / parent.relative_to("/") / source.name
    if target.exists() or not source.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
