"""What a job may ask for by name: an interpreter, everything that it brings along, and the digest that says so.

The digest covers the Python version and build, the package list and the platform: results of numeric class D2 are
compared only between machines where it is equal. Spec: specs/13-execution.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from protocol.errors import Refused
from protocol.units import Digest

PROBE_SECONDS: Final = 30
"""A cold interpreter on a slow disk answers in a few seconds; one that takes 30 s is not fit for jobs."""

WASM_NAME: Final = "wasm"
"""The runtime without an interpreter: its digest names the engine and the switches that make it deterministic."""

_PROBE: Final = """
import importlib.metadata as m, json, platform, sys
found = (d.metadata for d in m.distributions())
packages = sorted({(one["Name"].lower(), one["Version"]) for one in found if one["Name"]})
print(json.dumps({
    "version": sys.version, "implementation": sys.implementation.name, "machine": platform.machine(),
    "system": platform.system(), "libc": "-".join(platform.libc_ver()), "packages": packages,
    "prefix": sys.prefix, "base_prefix": sys.base_prefix}))
"""


class Facts(msgspec.Struct, frozen=True):
    """What an interpreter says about itself."""

    version: str
    implementation: str
    machine: str
    system: str
    libc: str
    packages: tuple[tuple[str, str], ...]
    prefix: str
    base_prefix: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime of this host. `folders` = what a sandbox must show read-only, at the same paths, besides /usr."""

    name: str
    digest: Digest
    interpreter: Path | None = None
    prefix: Path | None = None
    base_prefix: Path | None = None
    python: str = ""
    """Its language version, `3.11`; empty where there is no interpreter."""
    description: str = ""

    @property
    def folders(self) -> tuple[Path, ...]:
        """The runtime's own folders that are not below /usr, the outer ones only."""
        wanted = {path for path in (self.prefix, self.base_prefix) if path and not path.is_relative_to("/usr")}
        return tuple(sorted(path for path in wanted if not any(path != o and path.is_relative_to(o) for o in wanted)))


def inspect(name: str, interpreter: Path) -> Runtime:
    """Ask an interpreter what it is; Refused (`bad_runtime`) when it does not answer."""
    try:
        answer = subprocess.run(
            [str(interpreter), "-I", "-c", _PROBE], capture_output=True, timeout=PROBE_SECONDS, env={}, check=True
        )
        facts = msgspec.json.decode(answer.stdout, type=Facts)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise Refused(
            f"runtime {name!r}: {interpreter} does not work as a Python interpreter: {error}",
            code="bad_runtime",
            fix="Name an existing Python 3 interpreter, for example /usr/bin/python3 or <venv>/bin/python.",
        ) from error
    return Runtime(
        name=name,
        digest=facts_digest(facts),
        interpreter=interpreter.absolute(),
        prefix=Path(facts.prefix),
        base_prefix=Path(facts.base_prefix),
        python=".".join(facts.version.split()[0].split(".")[:2]),
        description=f"Python {facts.version.split()[0]}, {len(facts.packages)} packages, {facts.machine}",
    )


def facts_digest(facts: Facts) -> Digest:
    """BLAKE3 of what decides about results; the folders where things lie are left out."""
    plain = {key: value for key, value in msgspec.to_builtins(facts).items() if not key.endswith("prefix")}
    return Digest(blake3(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).digest())


def default_interpreter() -> Path | None:
    """The interpreter for `python` where none is configured: this process's base one, or what is on PATH."""
    if not getattr(sys, "frozen", False):
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        if base.exists():
            return base
    found = shutil.which("python3")
    return Path(found) if found else None


def discover(configured: Mapping[str, Path], wasm: Digest | None) -> dict[str, Runtime]:
    """Every runtime by name: the configured interpreters, `python` by default, and `wasm` where the engine is here."""
    wanted = dict(configured)
    fallback = default_interpreter()
    if "python" not in wanted and fallback:
        wanted["python"] = fallback
    found = {name: inspect(name, path) for name, path in sorted(wanted.items())}
    if wasm:
        found[WASM_NAME] = Runtime(WASM_NAME, wasm, description="WebAssembly, WASI preview 1, no clock, no random")
    return found
