"""Volumes between real processes: put, kill -9 the node that kept it, get it back elsewhere, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from random import Random

import pytest

from node.control_client import ControlClient
from protocol.errors import Refused, Unavailable
from protocol.units import MIB
from shoal.processes import until
from shoal.volume_line import NodeLine, Plain
from shoal.volume_transfer import get, put

SCRIPT = Path(__file__).with_name("volume_process.py")
PATIENCE_S = 180.0
"""Five processes start, dial, spread and repair; a busy machine takes its time with each."""


class Process:
    """One node."""

    def __init__(self, folder: Path, name: str, bootstraps: list[str]) -> None:
        self.folder = folder / name
        command = [sys.executable, str(SCRIPT), str(self.folder), name, *bootstraps]
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    @cached_property
    def address(self) -> str:
        """Where it can be reached; waits until it can."""
        assert self.child.stdout is not None
        address = self.child.stdout.readline().strip()
        assert address, self._log.read_text()
        return address

    def line(self, stack: ExitStack, renter: str = "me") -> NodeLine:
        assert self.address
        return NodeLine(stack.enter_context(ControlClient(self.folder / "control.sock")), renter)

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.wait()
        assert self.child.stdout is not None
        self.child.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts nodes; all are dead at the end."""
    started: list[Process] = []

    def begin(name: str, *bootstraps: str) -> Process:
        started.append(Process(tmp_path, name, list(bootstraps)))
        return started[-1]

    yield begin
    for process in started:
        if process.child.poll() is None:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that a tree can hold."""
    top = tmp_path / "source"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "big.bin").write_bytes(Random(7).randbytes(6 * MIB))
    (top / "deep" / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (top / "deep" / "run.sh").chmod(0o750)
    (top / "deep" / "er" / "link").symlink_to("../run.sh")
    (top / "nothing").touch()
    for number in range(200):
        (top / "deep" / f"{number}.txt").write_text(f"file {number}\n" * number)
    return top


def picture(top: Path) -> dict[str, tuple[int, bytes | str]]:
    """Everything below a folder: modes, contents, targets."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).as_posix()
        if path.is_symlink():
            found[name] = (0, str(path.readlink()))
        else:
            found[name] = (path.stat().st_mode & 0o7777, path.read_bytes() if path.is_file() else "")
    return found


def nothing(done: int, total: int, moved: int) -> None:
    """No progress line."""


def spread(line: NodeLine, name: str) -> Plain:
    """Wait until every shard has a holder and others keep the head."""

    def look() -> Plain | None:
        volume = line.ask("show", name=name)
        heads = volume["heads"]
        assert isinstance(heads, int)
        return volume if volume["is_spread"] and heads >= 3 else None

    return until(f"{name} is spread", look, [], PATIENCE_S)


def recovered(line: NodeLine, key: str) -> Plain | None:
    """What was found, once the node is connected with somebody who knows."""
    try:
        return line.ask("recover", key=key)
    except Unavailable:
        return None
    except Refused as error:
        if error.code != "no_such_volume":
            raise
        return None


def test_a_volume_outlives_the_node_that_kept_it(start: Callable[..., Process], folder: Path, tmp_path: Path) -> None:
    owner = start("owner")
    others = [start(name, owner.address) for name in ("a", "b", "c")]
    heir = start("heir", *(one.address for one in others))
    with ExitStack() as stack:
        line = owner.line(stack)
        line.ask("create", name="data")
        first = put(line, "data", folder, "first", nothing)
        assert first.moved >= 6 * MIB
        again = put(line, "data", folder, "", nothing)
        assert (again.moved, again.version) == (0, first.version), "the same tree moves no bytes and is no new version"
        (folder / "deep" / "7.txt").write_text("changed")
        second = put(line, "data", folder, "", nothing)
        assert 0 < second.moved < 6 * MIB, "only what changed was sent"
        volume = spread(line, "data")
        assert volume["sequence"], volume
        key = str(line.ask("key")["key"])
    owner.kill()
    with ExitStack() as stack:
        line = heir.line(stack)
        with pytest.raises(Refused, match="no key"):
            line.ask("recover", key=key[:-1] + ("0" if key[-1] != "0" else "1"))
        found = until("the heir finds the heads", lambda: recovered(line, key), [], PATIENCE_S)
        assert [(one["name"], one["problem"]) for one in found["volumes"]] == [("data", "")]  # type: ignore[attr-defined]
        mine = heir.line(stack, str(found["renter"]))
        get(mine, "data", "", tmp_path / "new", "", nothing)
        assert picture(tmp_path / "new") == picture(folder)
        get(mine, "data", "first", tmp_path / "old", "deep/7.txt", nothing)
        assert (tmp_path / "old" / "deep" / "7.txt").read_text() == "file 7\n" * 7
        more = put(mine, "data", tmp_path / "old", "", nothing)
        assert more.version["number"] not in (first.version["number"], second.version["number"])
        later = spread(mine, "data")
        assert int(str(later["sequence"])) > int(str(volume["sequence"]))


def test_removing_frees_the_shards(start: Callable[..., Process], folder: Path) -> None:
    owner = start("owner")
    others = [start(name, owner.address) for name in ("a", "b", "c")]
    with ExitStack() as stack:
        line = owner.line(stack)
        line.ask("create", name="data")
        put(line, "data", folder, "", nothing)
        spread(line, "data")

        def held() -> int:
            return sum(path.stat().st_size for one in others for path in (one.folder / "blobs").glob("??/*"))

        assert held() >= 6 * MIB
        line.ask("remove", name="data", snapshot="")
        until("the shards are gone", lambda: True if held() < MIB else None, [], PATIENCE_S)
        own = sum(path.stat().st_size for path in (owner.folder / "blobs").glob("??/*"))
        assert own < MIB
        with pytest.raises(Refused, match="there is no volume"):
            line.ask("show", name="data")


def test_a_version_survives_a_crash_before_it_was_sealed(start: Callable[..., Process], folder: Path) -> None:
    owner = start("owner")
    with ExitStack() as stack:
        line = owner.line(stack)
        line.ask("create", name="data")
        version = put(line, "data", folder, "", nothing).version
    owner.kill()
    owner = start("owner")
    for name in ("a", "b", "c"):
        start(name, owner.address)
    with ExitStack() as stack:
        line = owner.line(stack)
        assert spread(line, "data")["versions"] == [version]
