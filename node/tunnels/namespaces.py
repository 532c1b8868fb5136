"""The script that enters a task's namespaces, started and spoken to: sockets of its loopback, and shells beside it.

The node opens the namespaces itself, checks that they are the task's and not its own, and hands them to
`node/guest/doorkeeper.py`, whose process is the only one that ever enters. Spec: specs/24-tunnels.md.
"""

from __future__ import annotations

import array
import base64
import fcntl
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from node.executors import seccomp
from node.executors.door import Door, Doorway, first_child, groups_of, is_alive, is_genuine, limits_of
from protocol.errors import Unavailable
from protocol.overlay.tunnel import OpenShell

SCRIPT: Final = Path(__file__).parent.parent / "guest" / "doorkeeper.py"

ENTER_S: Final = 10.0
"""Seconds that entering may take: an interpreter without its libraries starts in 0.05 s."""

KINDS: Final = {
    "user": 0x10000000,
    "cgroup": 0x02000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "mnt": 0x00020000,
}
"""Namespaces in the order of entering, and what setns(2) calls them; behind `mnt` the host's files are gone."""

_NS_GET_USERNS: Final = 0xB701
_FIX: Final = "Ask the owner to look at the node's log; another provider may do better."


@dataclass(slots=True)
class Keeper:
    """One process inside a task's namespaces, and the line to it."""

    process: trio.Process
    line: trio.socket.SocketType
    errors: int

    async def close(self) -> None:
        """End it, and a shell with it; sockets that it handed out stay as they are."""
        self.line.close()
        self.process.kill()
        with trio.CancelScope(shield=True):
            await self.process.wait()
        os.close(self.errors)

    async def receive(self, count: int) -> tuple[bytes, list[int]]:
        """The next answer and the descriptors that came with it. Unavailable when the process has ended."""
        room = socket.CMSG_SPACE(count * array.array("i").itemsize)
        data, ancillary, _, _ = await self.line.recvmsg(16, room)
        handed = array.array("i")
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                handed.frombytes(rights[: len(rights) - len(rights) % handed.itemsize])
        if not data:
            raise Unavailable(f"the sandbox cannot be entered: {self.why()}", code="no_entry", fix=_FIX)
        return data, list(handed)

    def why(self) -> str:
        """Its last words."""
        text = os.pread(self.errors, 4_096, 0).decode("utf-8", "replace").strip()
        return text.splitlines()[-1][:200] if text else "the process inside ended without a word"


async def entered(door: Door, shell: OpenShell | None) -> Keeper:
    """A process inside the task behind `door`. Refused: no way in ever; Unavailable: not now, or not here."""
    way, first = door.way()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ExitStack() as stack:
        stack.callback(theirs.close)
        try:
            spaces = _spaces(way, first, is_whole=shell is not None, stack=stack)
            orders: dict[str, object] = {"spaces": spaces, "uid": -1 if way.uid is None else way.uid, "shell": None}
            if shell is not None:
                orders["shell"] = _shell(way, first, shell, stack)
            errors, given = os.memfd_create("errors"), os.memfd_create("orders")
            stack.callback(os.close, given)
            os.write(given, json.dumps(orders).encode())
            os.lseek(given, 0, os.SEEK_SET)
            process = await trio.lowlevel.open_process(
                [_python(), "-I", "-S", str(SCRIPT), str(theirs.fileno()), str(given)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs.fileno(), given, *_descriptors(orders)),
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unavailable(
                f"this node may not enter the sandbox of the chunk: {error.strerror}",
                code="no_entry",
                fix="The owner's node needs root for docker and runc; with bubblewrap it needs nothing.",
            ) from error
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return Keeper(process, trio.socket.from_stdlib_socket(ours), errors)


def _descriptors(orders: dict[str, object]) -> list[int]:
    """Every descriptor that the orders name."""
    spaces, shell = orders["spaces"], orders["shell"]
    assert isinstance(spaces, list)
    found = [descriptor for descriptor, _ in spaces]
    if isinstance(shell, dict):
        found += shell["groups"]
    return found


def _spaces(way: Doorway, first: int, is_whole: bool, stack: ExitStack) -> list[tuple[int, int]]:
    """The namespaces to enter, each checked to be another one than our own."""
    found: list[tuple[int, int]] = []
    pidfd = os.pidfd_open(first)
    stack.callback(os.close, pidfd)
    for name in KINDS if is_whole else ("net",):
        descriptor = os.open(f"/proc/{first}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        if not _is_own(descriptor, name):
            found.append((descriptor, KINDS[name]))
        elif name in ("net", "mnt", "pid"):
            raise Unavailable(f"the chunk shares the host's {name} namespace", code="no_entry", fix=_FIX)
    if not is_genuine(way, first) or not is_alive(pidfd):
        raise Unavailable("the chunk ended just now", code="chunk_not_running", fix="Look at `shoal job status`.")
    net = next(descriptor for descriptor, kind in found if kind == KINDS["net"])
    owner = fcntl.ioctl(net, _NS_GET_USERNS)
    stack.callback(os.close, owner)
    inner = [item for item in found if item[1] == KINDS["user"] and not _is_same(item[0], owner)]
    found = [item for item in found if item[1] != KINDS["user"]]
    if not _is_own(owner, "user"):
        found.insert(0, (owner, KINDS["user"]))
    return [*found, *inner]


def _is_own(descriptor: int, name: str) -> bool:
    mine, its = Path(f"/proc/self/ns/{name}").stat(), os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino)


def _is_same(one: int, other: int) -> bool:
    return os.fstat(one).st_ino == os.fstat(other).st_ino


def _shell(way: Doorway, first: int, shell: OpenShell, stack: ExitStack) -> dict[str, object]:
    """A shell has the limits, the groups, the variables and the filter of the job's own processes."""
    groups = [os.open(path, os.O_WRONLY) for path in groups_of(first) if path.exists()] if way.mark else []
    for descriptor in groups:
        stack.callback(os.close, descriptor)
    code = seccomp.program(platform.machine()) if seccomp.is_supported() else b""
    return {
        "groups": groups,
        "limits": limits_of(first_child(first) or first),
        "environment": {**way.environment, "TERM": shell.term},
        "mark": f"{way.shim}/script",
        "folder": "/in",
        "command": shell.command,
        "has_terminal": shell.has_terminal,
        "rows": shell.rows,
        "columns": shell.columns,
        "filter": base64.b64encode(code).decode(),
    }


def _python() -> str:
    """An interpreter for the script: our own, or the host's where we are one frozen program."""
    found = shutil.which("python3") if getattr(sys, "frozen", False) else sys.executable
    if not found:
        raise Unavailable("the provider has no python3 to enter sandboxes with", code="no_entry", fix=_FIX)
    return found


def exit_code(answer: bytes) -> int:
    """The exit code in a shell's last answer."""
    code: int = struct.unpack(">i", answer[1:5])[0]
    return code
