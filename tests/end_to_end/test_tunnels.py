"""Into running chunks of a real network: HTTP through a gateway and through a node, shells, and providers that die."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import pytest

from shoal.commands.gateway import make_token
from shoal.processes import shoal_command, shoal_environment
from tests.end_to_end import service
from tests.end_to_end.conftest import Network

PORT = 8888
JOB = f"""\
files: [service.py]
commands: [python service.py {PORT}]
ports: [{PORT}, 9999]
shell: true
timeout: 30m
estimate: 5s
"""


@pytest.fixture(scope="module")
def job(network: Network) -> Iterator[str]:
    """A job that serves until it is cancelled."""
    shutil.copy(service.__file__, network.folder / "service.py")
    found = network.run("serve", JOB)
    network.wait("the service listens", lambda: True if _has_said(network, found) else None)
    yield found
    network.client.cancel(found)


def _has_said(network: Network, job: str) -> bool:
    return any(line.line == "listening" for line in network.client.logs(job, follow=False))


def get(url: str, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def words(network: Network, *more: str) -> tuple[list[str], dict[str, str]]:
    environment = {"SHOAL_GATEWAY": network.state.gateway.url, "SHOAL_TOKEN": network.state.gateway.token}
    return shoal_command(*more), shoal_environment(**environment)


def shoal(network: Network, *more: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command, environment = words(network, *more)
    return subprocess.run(command, env=environment, input=given, capture_output=True, timeout=60)


@contextmanager
def forwarded(network: Network, job: str, *flags: str) -> Iterator[tuple[str, TextIO]]:
    """`shoal port-forward` while the block runs: the local address, and what it says."""
    command, environment = words(network, "port-forward", "--json", *flags, job, f"0:{PORT}")
    with (
        (network.folder / "forward.log").open("w+") as talk,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=talk, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (network.folder / "forward.log").read_text()
        try:
            yield f"http://127.0.0.1:{json.loads(line)['local']}", talk
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130


@pytest.fixture(params=["gateway", "node"])
def flags(request: pytest.FixtureRequest, network: Network) -> list[str]:
    """The way to the chunk: through the gateway, or through the control socket of the own node."""
    return [] if request.param == "gateway" else ["--data", str(network.devnet.folder / "steward")]


def test_ten_mebibytes_go_both_ways_unchanged(network: Network, job: str, flags: list[str]) -> None:
    with forwarded(network, job, *flags) as (url, _):
        assert get(f"{url}/content") == service.CONTENT
        assert get(f"{url}/echo", service.CONTENT) == service.CONTENT


def test_twenty_connections_at_once(network: Network, job: str, flags: list[str]) -> None:
    bodies = [bytes([number]) * 100_000 for number in range(20)]
    with forwarded(network, job, *flags) as (url, _), ThreadPoolExecutor(20) as pool:
        assert list(pool.map(lambda body: get(f"{url}/echo", body), bodies)) == bodies


def test_somebody_else_is_refused(network: Network, job: str) -> None:
    token = make_token(Path(network.state.gateway.data), "somebody-else", ["renter"])
    for verb in (("port-forward", job, f"0:{PORT}"), ("ssh", "--shell", job)):
        ended = shoal(network, *verb, "--token", token)
        assert (ended.returncode, ended.stdout) == (3, b""), ended.stderr
        assert b"[unknown_job]" in ended.stderr


def test_what_cannot_be_reached_is_told_with_a_fix(network: Network, job: str) -> None:
    undeclared = shoal(network, "port-forward", job, "0:22")
    assert undeclared.returncode == 3 and b"[port_not_declared]" in undeclared.stderr
    assert b"Write `ports: [22]`" in undeclared.stderr
    silent = shoal(network, "port-forward", "--stdio", job, "9999")
    assert silent.returncode == 4 and b"[nothing_listens]" in silent.stderr
    absent = shoal(network, "port-forward", f"{job}/7", "0:22")
    assert absent.returncode == 3 and b"[no_such_chunk]" in absent.stderr


def test_standard_input_and_output_carry_one_connection(network: Network, job: str) -> None:
    asked = b"GET /name HTTP/1.0\r\n\r\n"
    ended = shoal(network, "port-forward", "--stdio", job, str(PORT), given=asked)
    assert ended.returncode == 0 and ended.stdout.endswith(b"\r\n\r\nchunk"), ended


def test_a_command_has_streams_and_an_exit_code(network: Network, job: str, flags: list[str]) -> None:
    ended = shoal(network, "ssh", *flags, job, "--", "cat; ls /in; echo late >&2; exit 7", given=b"typed\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"typed\nservice.py\n", b"late\n")


def test_a_shell_has_this_terminal(network: Network, job: str) -> None:
    command, environment = words(network, "ssh", job)
    environment = {key: value for key, value in environment.items() if key not in ("COLUMNS", "LINES")}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 123, 0, 0))
    process = subprocess.Popen(command, env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    os.write(master, b"stty size; tty; echo $SHOAL_OUT; exit 5\n")
    shown = b""
    with suppress(OSError):  # A terminal without programs answers EIO.
        while select.select([master], [], [], 30)[0] and (data := os.read(master, 65_536)):
            shown += data
    os.close(master)
    assert process.wait(60) == 5, shown
    assert b"41 123" in shown and b"/dev/pts/" in shown and b"/out" in shown, shown


def test_a_chunk_that_moves_is_found_again(network: Network, job: str) -> None:
    """Last of all: the job goes on at another provider."""
    chunk = network.running(job)
    lost = network.name(chunk.provider)
    with forwarded(network, job) as (url, talk):
        with urllib.request.urlopen(f"{url}/hold", timeout=60) as held:
            assert held.read(4) == b"some"
            network.devnet.kill(lost)
            with pytest.raises(http.client.IncompleteRead):
                held.read()
        assert network.wait("another provider answers", _answers(f"{url}/name")) == b"chunk"
        assert network.running(job).provider != chunk.provider
        talk.seek(0)
        assert f"port {PORT}: the tunnel broke off" in talk.read()
    network.devnet.restart(lost)
    network.joined(lost)


def _answers(url: str) -> Callable[[], bytes | None]:
    def look() -> bytes | None:
        with suppress(OSError, urllib.error.URLError):
            return get(url)
        return None

    return look
