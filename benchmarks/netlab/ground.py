"""The ground under the laboratory: network namespaces of this kernel, and how the calling thread works inside one.

A namespace's name carries who made it (`shoal-lab.<pid>.<start of that process>.<number>.<name>`), so that laboratories
run beside each other, and what a killed run left behind is recognised and swept.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from protocol.errors import Unavailable

PREFIX: Final = "shoal-lab"
"""Of every namespace that a laboratory makes, and of nothing else on this machine."""

FOLDER: Final = Path("/run/netns")
"""Where iproute2 keeps the names of namespaces."""

CLONE_NEWNET: Final = 0x40000000
"""setns(2): a network namespace."""

NETLINK_NETFILTER: Final = 12
"""The netlink family that the connection tracking listens to."""

DELETE_CONNECTIONS: Final = (1 << 8) | 2
"""NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE: without attributes it empties the whole table."""

_REQUEST_ACKNOWLEDGED: Final = 5
_libc: Final = ctypes.CDLL(None, use_errno=True)


@functools.cache
def missing() -> str:
    """Why no laboratory can be built on this machine; empty when one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"there is no {program}: install {package}"
    if not Path("/dev/net/tun").exists():
        return "this kernel has no TUN devices"
    probe = Namespace(f"{_owner()}.probe")
    try:
        ip(f"netns add {probe.name}")
        probe.nft("add table ip probe\nadd chain ip probe c { type nat hook postrouting priority 100 ; }")
        probe.flush_connections()
    except (Unavailable, OSError) as error:
        return f"this kernel has no network namespaces with NAT: {error}"
    finally:
        probe.remove()
    return ""


def ip(*lines: str) -> None:
    """Run commands of ip(8) in one process; Unavailable with its words when one fails."""
    _run(["ip", "-batch", "-"], lines)


def _run(command: list[str], lines: tuple[str, ...]) -> None:
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise Unavailable(f"{' '.join(command)}: {said}", code="laboratory")


class Namespace:
    """One network stack: a host, a router or the internet between them."""

    def __init__(self, name: str) -> None:
        self.name = name

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside: sockets that it opens, and processes that it starts, belong here for ever.

        Not to be held over an await: other tasks share the thread."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            inside = os.open(FOLDER / self.name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def ip(self, *lines: str) -> None:
        """Commands of ip(8) inside."""
        with self.entered():
            ip(*lines)

    def nft(self, text: str) -> None:
        """Commands of nft(8) inside, all or none."""
        with self.entered():
            _run(["nft", "-f", "-"], (text,))

    def set(self, name: str, value: int) -> None:
        """A variable below /proc/sys/net; nothing happens where this kernel has no such thing."""
        with self.entered(), contextlib.suppress(FileNotFoundError):
            (Path("/proc/sys/net") / name).write_text(str(value), encoding="ascii")

    def wake(self) -> None:
        """Switch the loopback on and IPv6 off, and let no rule see what a switch inside passes on below IP."""
        self.set("ipv6/conf/all/disable_ipv6", 1)
        self.set("ipv6/conf/default/disable_ipv6", 1)
        self.set("bridge/bridge-nf-call-iptables", 0)
        self.ip("link set lo up")

    def socket(self, kind: socket.SocketKind, family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
        """A socket of this stack, usable from anywhere in this process."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def flush_connections(self) -> None:
        """Empty the table of tracked connections, and with it every mapping of a NAT."""
        body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        head = struct.pack("=IHHII", 16 + len(body), DELETE_CONNECTIONS, _REQUEST_ACKNOWLEDGED, 1, 0)
        with self.socket(socket.SOCK_RAW, socket.AF_NETLINK, NETLINK_NETFILTER) as line:
            line.bind((0, 0))
            line.send(head + body)
            code = struct.unpack_from("=i", line.recv(4_096), 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))

    def processes(self) -> list[int]:
        """Who runs inside."""
        done = subprocess.run(["ip", "netns", "pids", self.name], text=True, capture_output=True)
        return [int(line) for line in done.stdout.split()]

    def remove(self) -> None:
        """Kill what still runs inside, and forget it with all its devices."""
        if not (FOLDER / self.name).exists():
            return
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def _enter(file: int) -> None:
    if _libc.setns(file, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def _started(pid: int) -> str:
    """When a process started, in ticks since boot: with its pid its name for good. Empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[19]


def _owner() -> str:
    return f"{PREFIX}.{os.getpid()}.{_started(os.getpid())}"


def fresh(number: int, name: str) -> Namespace:
    """A namespace to be, of this process: `ip netns add` makes it."""
    return Namespace(f"{_owner()}.{number}.{name}")


def sweep() -> list[str]:
    """Remove what laboratories of dead processes left behind; the names."""
    swept = []
    for path in sorted(FOLDER.glob(f"{PREFIX}.*")) if FOLDER.is_dir() else []:
        pid, started = path.name.split(".")[1:3]
        if _started(int(pid)) != started:
            Namespace(path.name).remove()
            swept.append(path.name)
    return swept
