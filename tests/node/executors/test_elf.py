"""Files that want the same get the same libraries: ldd is asked about one of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.executors.elf import wants
from node.executors.host_image import TOOLS, _linked

PROGRAMS = [Path(found).resolve() for name in TOOLS if (found := shutil.which(name, path="/usr/bin:/bin"))]


def told(paths: list[Path]) -> set[Path]:
    """What ldd says of all of them."""
    answer = subprocess.run(["ldd", *map(str, paths)], capture_output=True, text=True, check=False)
    words = (word for line in answer.stdout.splitlines() for word in line.split() if not line.endswith(":"))
    return {Path(word) for word in words if word.startswith("/") and Path(word).is_file()}


@pytest.mark.skipif(sys.platform != "linux", reason="images are made of a Linux host's files")
def test_one_of_each_kind_stands_for_all() -> None:
    kinds = {wants(path) or path for path in PROGRAMS}
    assert len(kinds) < len(PROGRAMS) / 2, "the tools of a Unix link to much the same"
    assert _linked(PROGRAMS) == told(PROGRAMS)


@pytest.mark.parametrize("length", [0, 6, 40, 64, 200, 1_000])
def test_a_part_of_a_program_is_none(tmp_path: Path, length: int) -> None:
    part = tmp_path / "part"
    part.write_bytes(PROGRAMS[0].read_bytes()[:length])
    assert wants(part) is None


def test_a_script_and_a_folder_are_none(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert wants(script) is None
    assert wants(tmp_path) is None


@pytest.mark.skipif(not Path("/usr/bin/awk").exists(), reason="the program that is changed")
def test_another_library_or_another_place_to_look_is_another_kind(tmp_path: Path) -> None:
    program = Path("/usr/bin/awk").resolve().read_bytes()
    whole, other, here = tmp_path / "whole", tmp_path / "other", tmp_path / "there" / "here"
    here.parent.mkdir()
    whole.write_bytes(program)
    other.write_bytes(program.replace(b"libc.so.6\0", b"libx.so.6\0", 1))
    here.write_bytes(program)
    assert wants(whole) is not None
    assert wants(whole) != wants(other)
    assert wants(whole) == wants(here), "no path in it hangs on its own folder"
