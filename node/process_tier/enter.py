"""A program of its own, standard library only: enters a sandbox's namespaces and lets CRIU work in there.

Only the processes are dumped and restored; the sandbox around them (mounts, network, limits, filter) is always built by
the node's own executors, so an image can never ask for a mount of the host. Started as `python -I enter.py ORDERS`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

NAMESPACES = ("ipc", "uts", "net", "cgroup", "pid", "mnt")
"""The mount namespace last: the others are named by paths of this host."""

FAILED = 125
"""Our own exit code where CRIU could not do it; no job is running then."""

PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def main(orders: dict[str, object]) -> int:
    """Carry out one order: `bump`, `dump` or `restore`. Our own parent is a thread that may end before us, so only what
    we start is tied to its parent's life."""
    first, verb = int(str(orders["first"])), orders["verb"]
    if verb == "bump":
        return bump(first, int(str(orders["last"])))
    program = os.open(str(orders["criu"]), os.O_RDONLY)
    images = os.open(str(orders["images"]), os.O_RDONLY | os.O_DIRECTORY)
    null = os.open("/dev/null", os.O_RDWR)
    freezer = os.open(str(orders["freezer"]), os.O_RDONLY | os.O_DIRECTORY) if orders.get("freezer") else -1
    work = os.open(str(orders["work"]), os.O_RDONLY | os.O_DIRECTORY)
    names = {"IMAGES": images, "WORK": work, "NULL": null, "FREEZER": freezer}
    arguments = [part.format(**names) for part in orders["arguments"]]  # type: ignore[attr-defined]
    join(first, NAMESPACES)
    uid = int(str(orders["uid"]))
    kept = [fd for fd in (program, images, work, null, freezer) if fd >= 0]
    child = os.fork()
    if child:
        if verb == "restore":
            os.write(int(str(orders["done"])), b"%d " % child)
            os.close(int(str(orders["done"])))
        return code_of(os.waitpid(child, 0)[1])
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if verb == "dump":
        execute(program, ["criu", *arguments], uid, kept)
    restore(program, ["criu", *arguments], uid, kept, int(str(orders["done"])), int(str(orders["job"])))
    return 0


def join(first: int, names: tuple[str, ...]) -> None:
    """Enter the namespaces of a process; children are in its process namespace, we ourselves never are."""
    held = [os.open(f"/proc/{first}/ns/{name}", os.O_RDONLY) for name in names]
    for fd in held:
        if libc.setns(fd, 0):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)


def bump(first: int, last: int) -> int:
    """Let process ids in a new namespace begin above `last`, so that those of the image are free."""
    file = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY)
    join(first, ("pid",))
    child = os.fork()
    if child:
        return code_of(os.waitpid(child, 0)[1])
    os.write(file, str(last).encode())
    os._exit(0)


def execute(program: int, arguments: list[str], uid: int, kept: list[int]) -> None:
    """Become CRIU. With `uid` >= 0 the job's user is the real one: then its limits may be read without a capability."""
    os.chdir("/")
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, 0, 0)
        os.setresuid(uid, 0, 0)
    for fd in kept:
        os.set_inheritable(fd, True)
    os.execve(program, arguments, {"PATH": "/usr/bin:/bin"})


def restore(program: int, arguments: list[str], uid: int, kept: list[int], done: int, job: int) -> None:
    """Restore below us, give up our rights, and be the parent that the job's exit code needs."""
    worker = os.fork()
    if not worker:
        os.setsid()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        execute(program, arguments, uid, kept)
    if os.waitpid(worker, 0)[1]:
        os._exit(FAILED)
    os.write(done, b"alive")
    os.close(done)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):  # The job alone holds its output now: its end is the end of the pipe.
        os.dup2(null, fd)
    os.closerange(3, 64)
    os.setgroups([])
    os.setresgid(job, job, job)
    os.setresuid(job, job, job)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os._exit(code_of(os.wait()[1]))


def code_of(status: int) -> int:
    """As a shell says it: 128 + the number of the signal."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
