"""Runtimes: what an interpreter is, and that the digest says exactly that."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import runtimes
from node.executors.wasm import engine_digest
from protocol.errors import Refused

FACTS = runtimes.Facts("3.11.2 (main)", "cpython", "x86_64", "Linux", "glibc-2.36", (("numpy", "2.0"),), "/a", "/b")


def test_this_interpreter_is_described() -> None:
    found = runtimes.inspect("here", Path(sys.executable))
    assert found.prefix == Path(sys.prefix)
    assert found.base_prefix == Path(sys.base_prefix)
    assert found.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found.digest == runtimes.inspect("again", Path(sys.executable)).digest


def test_the_place_does_not_count() -> None:
    assert runtimes.facts_digest(FACTS) == runtimes.facts_digest(
        msgspec.structs.replace(FACTS, prefix="/x", base_prefix="/y")
    )


@given(st.sampled_from(["version", "implementation", "machine", "system", "libc"]), st.text(max_size=20))
def test_everything_else_counts(field: str, value: str) -> None:
    other = msgspec.structs.replace(FACTS, **{field: value})
    assert (runtimes.facts_digest(other) == runtimes.facts_digest(FACTS)) == (other == FACTS)


def test_packages_count() -> None:
    other = msgspec.structs.replace(FACTS, packages=(("numpy", "2.1"),))
    assert runtimes.facts_digest(other) != runtimes.facts_digest(FACTS)


@pytest.mark.parametrize("path", ["/nowhere/python", "/bin/false", "/bin/true", "/etc/passwd"])
def test_what_is_no_interpreter_is_refused(path: str) -> None:
    with pytest.raises(Refused) as caught:
        runtimes.inspect("odd", Path(path))
    assert caught.value.code == "bad_runtime"
    assert path in caught.value.detail


def test_discovery_has_python_and_wasm() -> None:
    found = runtimes.discover({"mine": Path(sys.executable)}, engine_digest())
    assert set(found) == {"mine", "python", "wasm"}
    assert found["wasm"].digest == engine_digest()
    assert "wasm" not in runtimes.discover({"python": Path(sys.executable)}, None)


def test_folders_are_the_outer_ones_outside_usr() -> None:
    runtime = runtimes.Runtime("x", engine_digest(), Path("/v/e/bin/python"), Path("/v/e"), Path("/v"))
    assert runtime.folders == (Path("/v"),)
    system = runtimes.Runtime("x", engine_digest(), Path("/usr/bin/python3"), Path("/usr"), Path("/usr"))
    assert system.folders == ()
