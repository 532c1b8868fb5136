"""Enters the namespaces of a running task and hands out sockets made there, or starts a shell there.

A script of its own: `python -I -S doorkeeper.py <socket> <orders>`, two descriptors that the node has opened. The file
`orders` is a JSON object (`Orders`). A request for a socket is one byte, `4` or `6`; the answer is the same byte with
the socket, which the node connects itself. A shell answers `m` with its descriptors and, at the end, `x` and its exit
code.
Nothing here listens, and nothing but sockets of the sandbox's own loopback leaves it.
"""

from __future__ import annotations

import array
import base64
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
import termios
from typing import Final, TypedDict

CLONE_NEWUSER: Final = 0x10000000
PR_SET_PDEATHSIG: Final = 1
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2
CAPABILITIES_MAX: Final = 64
"""More than any kernel has; the first unknown one ends the loop."""
TIOCGPTN: Final = 0x80045430
TIOCSPTLCK: Final = 0x40045431
SHELLS: Final = ("/bin/bash", "/bin/sh")


class Orders(TypedDict):
    """What the node wants."""

    spaces: list[tuple[int, int]]
    """(descriptor, kind) of each namespace, in the order of entering."""
    uid: int
    """-1 = as it is after entering."""
    shell: Shell | None


class Shell(TypedDict):
    """How the program is started."""

    groups: list[int]
    limits: list[tuple[int, int]]
    environment: dict[str, str]
    mark: str
    folder: str
    command: str
    has_terminal: bool
    rows: int
    columns: int
    filter: str


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


_libc: Final = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Enter, then serve."""
    line = socket.socket(fileno=int(sys.argv[1]))
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        orders: Orders = json.load(file)
    for descriptor, kind in orders["spaces"]:
        _must("setns", _libc.setns(descriptor, kind))
        os.close(descriptor)
    _must("no_new_privs", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    shell = orders["shell"]
    if shell is None:
        _become(orders["uid"])
        serve_sockets(line)
    else:
        serve_shell(line, shell, orders["uid"])


def serve_sockets(line: socket.socket) -> None:
    """A fresh TCP socket of this network namespace for every byte that asks for one."""
    while wanted := line.recv(1):
        family = socket.AF_INET6 if wanted == b"6" else socket.AF_INET
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            line.send(b"!")
            continue
        with made:
            _hand_over(line, wanted, [made.fileno()])


def serve_shell(line: socket.socket, shell: Shell, uid: int) -> None:
    """Start the program, let the node talk to it, and tell how it ended."""
    go, started = os.pipe()
    pid = os.fork()  # Only a child is inside the process namespace that was entered.
    if not pid:
        os.close(started)
        os.read(go, 1)
        _run(line, shell, uid)
    os.close(go)
    for descriptor in shell["groups"]:
        os.write(descriptor, str(pid).encode())
        os.close(descriptor)
    os.close(started)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    line.send(b"x" + struct.pack(">i", code if code >= 0 else 128 - code))


def _run(line: socket.socket, shell: Shell, uid: int) -> None:
    """In the child: become the job, and then the program."""
    try:
        if not os.path.exists(shell["mark"]):  # noqa: PTH110 - pathlib is not worth its start-up time here.
            raise FileNotFoundError("the sandbox is not complete")
        os.setsid()
        _become(uid)
        _must("pdeathsig", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        environment = shell["environment"]
        handed = _terminal(shell) if shell["has_terminal"] else _pipes()
        _hand_over(line, b"m", handed)
        line.close()
        os.chdir(shell["folder"])
        for number, value in shell["limits"]:
            resource.setrlimit(number, (value, value))
        program = next(path for path in SHELLS if os.access(path, os.X_OK))
        words = [program, "-c", shell["command"]] if shell["command"] else [program]
        os.closerange(3, 1024)
        _restrict(base64.b64decode(shell["filter"]))
        os.execve(program, words, environment)
    except (OSError, StopIteration) as error:
        os.write(2, f"shoal: no shell: {error}\r\n".encode())
    os._exit(127)


def _terminal(shell: Shell) -> list[int]:
    """A new terminal of the sandbox as our standard streams; its other end is for the node."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("I", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", shell["rows"], shell["columns"], 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    return [master]


def _pipes() -> list[int]:
    """Pipes as our standard streams; their other ends are for the node."""
    kept, handed = [], []
    for is_input in (True, False, False):
        reading, writing = os.pipe()
        kept.append(reading if is_input else writing)
        handed.append(writing if is_input else reading)
    for stream, end in enumerate(kept):
        os.dup2(end, stream)
    return handed


def _become(uid: int) -> None:
    """Give up what is left of the node's rights for good."""
    for number in range(CAPABILITIES_MAX):
        if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0):
            break
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _restrict(code: bytes) -> None:
    """The job's own filter of system calls."""
    if code:
        program = Program(len(code) // 8, code)
        _must("seccomp", _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))


def _hand_over(line: socket.socket, word: bytes, descriptors: list[int]) -> None:
    rights = array.array("i", descriptors).tobytes()
    line.sendmsg([word], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def _must(what: str, result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
