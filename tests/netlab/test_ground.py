"""Laboratories keep to themselves, and nothing of them outlives its process for long."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.netlab import ground
from benchmarks.netlab.laboratory import Laboratory
from protocol.errors import Refused, Unavailable
from shoal.processes import shoal_environment
from tests.node.waiting import SECONDS

KILLED = """
import subprocess, sys
from benchmarks.netlab.laboratory import Laboratory
from benchmarks.netlab.shaper import Link
with Laboratory() as lab:
    home = lab.house("home", "symmetric", link=Link())
    with home.host.entered():
        child = subprocess.Popen(["sleep", "1000"])
    print(child.pid, *(one.name for one in home.namespaces()), lab.internet.name, flush=True)
    sys.stdin.read()
"""


def serves(lab: Laboratory) -> socket.socket:
    """A public host that listens where every laboratory has it."""
    shop = lab.house("shop", "public").host
    door = shop.socket(socket.SOCK_STREAM)
    door.bind((shop.address, 4301))
    door.listen(1)
    door.settimeout(SECONDS)
    return door


def test_two_laboratories_with_the_same_addresses_do_not_meet(lab: Laboratory) -> None:
    with serves(lab) as door, Laboratory() as other, serves(other) as elsewhere:
        home = lab.house("home", "port-restricted").host
        with home.socket(socket.SOCK_STREAM) as caller:
            caller.settimeout(SECONDS)
            caller.connect(door.getsockname())
            connection, (seen, _) = door.accept()
            connection.close()
        assert seen == lab.houses["home"].address
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_the_thread_is_back_where_it_was(lab: Laboratory) -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    home = lab.house("home", "full-cone").host
    with pytest.raises(ZeroDivisionError), home.entered():
        assert Path("/proc/thread-self/ns/net").readlink() != before
        _ = 1 // 0
    assert Path("/proc/thread-self/ns/net").readlink() == before


def test_a_laboratory_leaves_nothing_behind() -> None:
    if why := ground.missing():
        pytest.skip(why)
    with Laboratory() as lab:
        homes = [lab.house("home", "cgnat", hosts=3), lab.house("office", "tcp-only")]
        names = [one.name for home in homes for one in home.namespaces()] + [lab.internet.name]
        assert all((ground.FOLDER / name).exists() for name in names)
    assert not any((ground.FOLDER / name).exists() for name in names)


def test_what_a_killed_run_left_behind_is_swept(lab: Laboratory) -> None:
    command = [sys.executable, "-P", "-c", KILLED]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=shoal_environment()
    ) as run:
        assert run.stdout is not None
        orphan, *names = run.stdout.readline().split()
        watched = os.pidfd_open(int(orphan))
        run.send_signal(signal.SIGKILL)
    try:
        assert len(names) == 3 and all((ground.FOLDER / name).exists() for name in names)
        assert set(names) <= set(ground.sweep())
        assert not any((ground.FOLDER / name).exists() for name in names)
        ended = select.poll()
        ended.register(watched, select.POLLIN)
        assert ended.poll(int(SECONDS * 1_000)), "a process of the killed run lives on"
    finally:
        os.close(watched)
    assert (ground.FOLDER / lab.internet.name).exists(), "a living laboratory was swept"


def test_a_command_that_fails_says_why(lab: Laboratory) -> None:
    with pytest.raises(Unavailable, match="no-such-device"):
        lab.internet.ip("link set no-such-device up")
    with pytest.raises(Unavailable, match="syntax error"):
        lab.internet.nft("add nonsense")
    lab.house("home", "symmetric")
    with pytest.raises(Refused, match="no room"):
        lab.house("home", "symmetric")
