"""Into a real sandbox and out again: sockets of its loopback, shells with its rights and no others."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.executors.door import Door, Doorway
from node.tunnels.ends import PortEnd, ShellEnd, Sockets, shell
from protocol.errors import Refused, Unavailable
from protocol.overlay.tunnel import OpenShell
from protocol.overlay.tunnel_frames import Frame, Kind, resize
from tests.node.executors.bench import IN_USER_NAMESPACE, Bench, BenchOf
from tests.node.waiting import SECONDS, happens

SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 8888))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"inside:" + connection.recv(100))
    connection.close()
"""
TIERS = pytest.mark.parametrize("tier", ["runc", "bwrap", IN_USER_NAMESPACE, "docker"])


@asynccontextmanager
async def serving(bench: Bench, *, script: str = SERVER) -> AsyncIterator[Door]:
    """A task that listens on port 8888, and the door to it."""
    spec = bench.spec("python server.py", files={"server.py": script.encode()})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, spec)
        with trio.fail_after(SECONDS):
            await bench.talked.wait()
        door = bench.runner.door("job/0/1")
        assert door is not None and bench.lines == ["listening"], bench.lines
        await happens(lambda: stands(door))  # It may speak before runc has told the node of its process.
        yield door
        bench.runner.stop("job/0/1")
    assert door.closed.is_set()


def stands(door: Door) -> bool:
    try:
        door.way()
    except Unavailable:
        return False
    return True


async def answer_of(end: PortEnd, question: bytes) -> bytes:
    await end.take(Frame(Kind.DATA, question))
    answer = b""
    while (frame := await end.next()) is not None:
        answer += frame.payload
    await end.close()
    return answer


async def output_of(end: ShellEnd, *frames: Frame) -> tuple[dict[Kind, bytes], int]:
    """Everything that a program says, by kind, and its exit code."""
    said = {Kind.DATA: b"", Kind.STDERR: b""}
    code = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.run)
        for frame in frames:
            await end.take(frame)
        with trio.fail_after(SECONDS):
            while (heard := await end.next()) is not None:
                if heard.kind is Kind.EXIT:
                    code = heard.number
                elif heard.kind is not Kind.END:
                    said[heard.kind] += heard.payload
    await end.close()
    assert code is not None
    return said, code


@TIERS
async def test_a_port_inside_answers_and_the_process_inside_is_used_again(bench_of: BenchOf, tier: str) -> None:
    async with serving(await bench_of(tier)) as door:
        sockets = Sockets(door)
        for number in range(3):
            assert await answer_of(await sockets.connect(8888), b"%d" % number) == b"inside:%d" % number
        with pytest.raises(Unavailable, match="nothing listens on port 8889") as caught:
            await sockets.connect(8889)
        assert caught.value.code == "nothing_listens"
        await sockets.close()


@TIERS
async def test_the_host_s_own_ports_are_not_there(bench_of: BenchOf, tier: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with serving(await bench_of(tier)) as door:
        sockets = Sockets(door)
        with pytest.raises(Unavailable):
            await sockets.connect(port)
        await sockets.close()
    await listeners[0].aclose()


@TIERS
async def test_a_shell_is_the_job_and_nothing_more(bench_of: BenchOf, tier: str) -> None:
    probe = (
        "id -u; pwd; ls /in; ls /proc | grep -c '^[0-9]';"
        " grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ls /etc/shadow; exit 7"
    )
    async with serving(await bench_of(tier)) as door:
        end = await shell(door, OpenShell(bytes(16), 0, probe, has_terminal=False))
        said, code = await output_of(end)
    words = said[Kind.DATA].decode().split()
    assert code == 7
    assert words[1:3] == ["/in", "server.py"] and int(words[3]) < 10
    facts = dict(zip(words[4::2], words[5::2], strict=False))
    assert int(facts["CapEff:"], 16) == 0 and int(facts["CapBnd:"], 16) == 0, words
    assert facts["NoNewPrivs:"] == "1" and facts["Seccomp:"] == "2"
    assert b"/etc/shadow" in said[Kind.STDERR]
    assert words[0] not in ("0", str(os.getuid()))


@TIERS
async def test_a_terminal_has_a_size_that_changes(bench_of: BenchOf, tier: str) -> None:
    async with serving(await bench_of(tier)) as door:
        end = await shell(
            door, OpenShell(bytes(16), 0, "stty size; tty; read x; stty size; exit 3", rows=33, columns=77)
        )
        said, code = await output_of(end, resize(44, 99), Frame(Kind.DATA, b"go\n"))
    text = said[Kind.DATA].decode()
    assert code == 3
    assert "44 99" in text and "/dev/pts/" in text, text


@pytest.mark.parametrize("tier", ["bwrap"])
async def test_a_shell_dies_with_its_tunnel_and_is_counted_with_the_job(bench_of: BenchOf, tier: str) -> None:
    async with serving(await bench_of(tier)) as door:
        end = await shell(door, OpenShell(bytes(16), 0, "echo $$; exec sleep 1234", has_terminal=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.run)
            assert (await end.next()) is not None
            way, first = door.way()
            with trio.fail_after(SECONDS):
                while not (found := [pid for pid in pids() if of(pid, "cmdline") == "sleep\x001234\x00"]):
                    await trio.lowlevel.checkpoint()
            inside = found[0]
            assert of(inside, "cgroup") == of(first, "cgroup")
            assert f"Uid:\t{way.uid}\t{way.uid}" in of(inside, "status")
            gone = os.pidfd_open(inside)
            nursery.cancel_scope.cancel()
        await end.close()
        with trio.fail_after(SECONDS):
            await trio.lowlevel.wait_readable(gone)
        os.close(gone)


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def of(pid: int, name: str) -> str:
    """What the kernel says of a process; '' when it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


async def test_a_program_that_reads_gets_its_end_of_input(bench_of: BenchOf) -> None:
    async with serving(await bench_of("bwrap")) as door:
        end = await shell(door, OpenShell(bytes(16), 0, "cat; echo gone >&2", has_terminal=False))
        said, code = await output_of(end, Frame(Kind.DATA, b"over\n"), Frame(Kind.END))
    assert (said, code) == ({Kind.DATA: b"over\n", Kind.STDERR: b"gone\n"}, 0)


async def test_tiers_without_a_namespace_refuse(bench_of: BenchOf) -> None:
    bench = await bench_of("child")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run, bench.spec("echo up; sleep 3600"))
        await bench.talked.wait()
        door = bench.runner.door("job/0/1")
        assert door is not None
        with pytest.raises(Refused, match="the tier child has no network of its own"):
            await Sockets(door).connect(80)
        bench.runner.stop("job/0/1")


async def test_a_process_of_the_host_is_never_entered() -> None:
    """Ids are used again: a process without the task's mark, or in our own network, is not the task."""
    door = Door()
    door.open(Doorway(os.getpid, "", None, {}, "/run/shoal"))
    with pytest.raises(Unavailable, match="shares the host's net"):
        await Sockets(door).connect(80)
    door.close()
    with pytest.raises(Unavailable, match="does not stand"):
        await Sockets(door).connect(80)
