"""What a protected task sees that others do not: in every tier, and in the engine's own words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from node.executors.docker_engine import container
from node.executors.interface import Task, environment, write_script
from node.executors.runc import config
from node.protection import layout
from protocol.jobspec import Checkpoint, Resources
from protocol.units import GIB, MIB
from tests.node.protection import conftest as protection
from tests.node.protection.stand import Stand, protected, unprotected

plain_runtimes = protection.plain_runtimes
stand = protection.stand
stand_of = protection.stand_of

PATHS = ("SHOAL_SNAPSHOT_DIR", "SHOAL_CHECKPOINT_DIR", "SHOAL_GUEST", "PYTHONPATH")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    resources = Resources(memory_bytes=GIB, disk_bytes=64 * MIB)
    return Task("t", tmp_path, None, env={"PYTHONPATH": "/in/lib"}, resources=resources)


async def test_a_protected_job_writes_its_folders_and_only_reads_the_hook(stand: Stand) -> None:
    host = await stand.host()
    spec = stand.spec(
        host,
        "echo x > $SHOAL_SNAPSHOT_DIR/x; echo y > $SHOAL_CHECKPOINT_DIR/y; cat $SHOAL_SNAPSHOT_DIR/x",
        'test -f $SHOAL_GUEST/sitecustomize.py; test "$PYTHONPATH" = "$SHOAL_GUEST:/in/lib"',
        'test -n "$SHOAL_OWN" || ! touch $SHOAL_GUEST/evil 2> /dev/null',
        "! test -e $SHOAL_IN/../taken/clock",
        PYTHONPATH="/in/lib",
        SHOAL_OWN="1" if stand.executor.tier == "child" else "",
    )
    done = await host.run(protected(spec))
    assert (done.reason, host.lines) == ("ok", ["x"]), (done, host.lines)


@pytest.mark.parametrize("why", ["audit", "off"])
async def test_others_see_nothing_of_it(stand: Stand, why: str) -> None:
    host = await stand.host()
    spec = stand.spec(
        host, f'test -z "{"".join("$" + name for name in PATHS)}"; ! touch $SHOAL_IN/../snap/x 2> /dev/null'
    )
    off = msgspec.structs.replace(spec, checkpoint=Checkpoint(is_on=False))
    done = await host.run(unprotected(spec) if why == "audit" else protected(off))
    assert done.reason == "ok", (done, host.lines)
    assert not host.said


def test_the_variables_are_those_of_the_place(task: Task) -> None:
    plain = environment(task, "/tmp", "/in", "/out", "/run/shoal/bin")
    assert plain["PYTHONPATH"] == "/in/lib" and "SHOAL_GUEST" not in plain
    inside = environment(layout.protected(task), "/tmp", "/in", "/out", "/run/shoal/bin")
    assert [inside[name] for name in PATHS] == [
        "/snap",
        "/checkpoint",
        "/run/shoal/guest",
        "/run/shoal/guest:/in/lib",
    ]
    folder = task.folder
    child = environment(layout.protected(task), "/t", str(folder / "in"), str(folder / "out"), str(folder / "run/bin"))
    assert [child[name] for name in PATHS[:3]] == [
        str(folder / "snap"),
        str(folder / "checkpoint"),
        str(folder / "run" / "guest"),
    ]


def test_engines_are_told_of_the_folders(task: Task) -> None:
    shown = layout.protected(task)
    host = container(shown, "image", "label")["HostConfig"]
    assert isinstance(host, dict)
    writable = {mount["Target"] for mount in host["Mounts"] if not mount["ReadOnly"]}
    assert writable == {"/out", "/snap", "/checkpoint"}
    assert {limit["Name"]: limit["Soft"] for limit in host["Ulimits"]}["fsize"] == 4 * GIB
    mounts = config(shown, task.folder, 7, "/group")["mounts"]
    assert isinstance(mounts, list)
    assert {"/out", "/snap", "/checkpoint"} == {mount["destination"] for mount in mounts if "rw" in mount["options"]}


def test_a_shadow_has_the_lowest_priority(task: Task) -> None:
    (task.folder / "run").mkdir()
    script = write_script(replace(task, is_shadow=True), "/tmp", "/in", "/out", "/run/shoal/bin").read_text()
    assert script.startswith('[ -n "$SHOAL_NICED" ] ||') and "nice -n 19" in script
    plain = write_script(replace(task, folder=task.folder), "/tmp", "/in", "/out", "/run/shoal/bin")
    assert "nice" not in plain.read_text()


def test_the_hook_is_laid_out_from_wherever_it_is_installed(task: Task) -> None:
    (task.folder / "run").mkdir()
    layout.make(task)
    guest = task.folder / "run" / "guest"
    assert {"sitecustomize.py", "board.py", "__init__.py", "shoal_hook.pth"} <= {path.name for path in guest.iterdir()}
    assert not any(path.name == "__pycache__" for path in guest.rglob("*"))
