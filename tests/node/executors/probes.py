# ruff: noqa: PTH101, PTH104, PTH108, PTH110, PTH115, PTH123, PTH208
"""Attempts to break out, run inside a sandbox by test_probes.py. A line per probe: `held <name>` or `BROKE <name> …`.

A probe is a function that returns text when it got through, and raises OSError or returns nothing when it was stopped.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROBES: list[Callable[[], str | None]] = []
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # x86_64, aarch64
    "process_vm_readv": (310, 270), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104), "init_module": (175, 105),
    "io_uring_setup": (425, 425), "open_by_handle_at": (304, 265), "ptrace": (101, 117), "fsopen": (430, 430),
    "clock_settime": (227, 112), "swapon": (167, 224), "reboot": (169, 142), "syslog": (103, 116), "acct": (163, 89),
}  # fmt: skip
NEW_USER, NEW_NET, NEW_NS = 0x10000000, 0x40000000, 0x00020000


def probe(function: Callable[[], str | None]) -> Callable[[], str | None]:
    PROBES.append(function)
    return function


def call(name: str, *arguments: object) -> int:
    """A raw system call; OSError when it fails."""
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    result = int(LIBC.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def written(path: str) -> str:
    """Open a path for writing, which must fail; what belongs to the kernel is not written to even where it works."""
    with open(path, "ab") as file:
        if not path.startswith(("/proc", "/sys", "/dev")):
            file.write(b"1")
    return f"could write {path}"


def contents(path: str) -> str:
    """Read a path, which must fail."""
    with open(path, "rb") as file:
        return f"read {path}: {file.read(20)!r}"


# Files of the host.
for _path in (
    "/escape", "/usr/escape", "/usr/bin/escape", "/in/escape", "/etc/escape", "/etc/passwd", "/run/shoal/script",
    "/lib/escape",
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/cgroup.procs", "/dev/escape", "/dev/mem",
):  # fmt: skip

    def _write(path: str = _path) -> str:
        return written(path)

    _write.__name__ = "write " + _path
    PROBES.append(_write)

for _path in (
    "/etc/shadow", "/etc/ssh/sshd_config", "/in/../../../etc/shadow", "/proc/1/root/etc/shadow", "/proc/kcore",
    "/proc/kmsg", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/sda", "/dev/vda", "/dev/kmsg", "/dev/tty",
    os.environ["PROBE_SECRET_FILE"],
):  # fmt: skip

    def _read(path: str = _path) -> str:
        return contents(path)

    _read.__name__ = "read " + ("the host's secret file" if _path == os.environ["PROBE_SECRET_FILE"] else _path)
    PROBES.append(_read)


@probe
def list_home_folders() -> str | None:
    found = os.listdir("/home")
    return f"/home has {found}" if found else None


@probe
def list_the_blob_store() -> str:
    return f"{os.listdir(os.environ['PROBE_BLOBS'])}"


@probe
def change_the_runtime() -> str:
    return written(str(Path(sys.prefix) / "escape"))


@probe
def unlink_an_input() -> str:
    os.unlink("/in/probes.py")
    return "deleted an input"


@probe
def rename_an_input() -> str:
    os.rename("/in/probes.py", "/in/other")
    return "renamed an input"


@probe
def chmod_an_input() -> str:
    os.chmod("/in/probes.py", 0o777)
    return "changed an input's mode"


@probe
def hard_link_an_input_into_the_outputs() -> str:
    os.link("/in/probes.py", "/out/linked")
    return "a blob has a second name in /out"


# The network.
def connected(family: int, kind: int, address: object) -> str:
    with socket.socket(family, kind) as line:
        line.settimeout(1)
        line.connect(address)  # type: ignore[arg-type]
        line.send(b"hello")
        return f"talked to {address}"


@probe
def connect_to_the_hosts_loopback() -> str:
    return connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(os.environ["PROBE_PORT"])))


@probe
def connect_to_an_abstract_socket_of_the_host() -> str:
    return connected(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + os.environ["PROBE_ABSTRACT"])


@probe
def connect_to_the_metadata_service() -> str:
    return connected(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80))


@probe
def send_a_datagram_to_the_internet() -> str:
    return connected(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53))


@probe
def send_a_datagram_over_ipv6() -> str:
    return connected(socket.AF_INET6, socket.SOCK_DGRAM, ("2001:db8::1", 53))


@probe
def resolve_a_name() -> str:
    return str(socket.getaddrinfo("example.org", 80))


@probe
def open_a_raw_socket() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "raw socket"


@probe
def open_a_packet_socket() -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "packet socket"


@probe
def connect_to_the_hypervisor() -> str:
    return connected(socket.AF_VSOCK, socket.SOCK_STREAM, (2, 1024))


@probe
def see_other_network_interfaces() -> str | None:
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    kinds = {name: Path(f"/sys/class/net/{name}/type").exists() for name in names}
    up = [
        name
        for name in names
        if any(line.split()[0] == name for line in Path("/proc/net/route").read_text().splitlines())
    ]
    return f"routes over {up} of {kinds}" if up else None


@probe
def use_the_docker_socket() -> str | None:
    paths = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", os.environ["PROBE_ENGINE"])
    found = [path for path in paths if path and os.path.exists(path)]
    return f"found {found}" if found else None


# The kernel.
@probe
def mount_a_tmpfs() -> str:
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    return "mounted"


@probe
def remount_the_root_writable() -> str:
    call("mount", None, b"/", None, 32, None)
    return "remounted"


@probe
def unmount_the_inputs() -> str:
    call("umount2", b"/in", 2)
    return "unmounted"


@probe
def pivot_the_root() -> str:
    call("pivot_root", b"/tmp", b"/tmp")
    return "pivoted"


@probe
def change_the_root() -> str:
    os.chroot("/out")
    return "chroot"


@probe
def make_a_user_namespace() -> str:
    call("unshare", NEW_USER)
    return "new user namespace"


@probe
def make_a_mount_namespace() -> str:
    call("unshare", NEW_NS | NEW_NET)
    return "new mount namespace"


@probe
def clone_into_a_user_namespace() -> str | None:
    number = 56 if os.uname().machine == "x86_64" else 220
    child = int(LIBC.syscall(number, NEW_USER | signal.SIGCHLD, None, None, None, None))
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
        return "cloned with CLONE_NEWUSER"
    return None


@probe
def enter_another_namespace() -> str:
    with open("/proc/1/ns/net", "rb") as file:
        call("setns", file.fileno(), 0)
    return "entered"


@probe
def trace_a_process_of_the_host() -> str | None:
    call("ptrace", 16, int(os.environ["PROBE_PID"]), 0, 0)
    return "attached"


@probe
def read_the_hosts_memory() -> str:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("PN", ctypes.addressof(buffer), 8)
    call("process_vm_readv", int(os.environ["PROBE_PID"]), vector, 1, vector, 1, 0)
    return "read the memory of a process of the host"


for _name, _arguments in {
    "keyctl": (0, -3, 1), "add_key": (b"user", b"x", b"x", 1, -3), "bpf": (0, bytes(128), 128),
    "perf_event_open": (bytes(128), 0, -1, -1, 0), "userfaultfd": (0,), "kexec_load": (0, 0, 0, 0),
    "init_module": (0, 0, b""), "open_by_handle_at": (0, bytes(64), 0), "fsopen": (b"tmpfs", 0),
    "swapon": (b"/out/x", 0),
    "clock_settime": (0, struct.pack("qq", 1, 0)), "reboot": (0, 0, 0, None), "acct": (b"/out/x",),
    "syslog": (3, ctypes.create_string_buffer(4096), 4096), "io_uring_setup": (8, bytes(120)),
}.items():  # fmt: skip

    def _call(name: str = _name, arguments: tuple[object, ...] = _arguments) -> str:
        given = call(name, *arguments)
        if name.endswith(("_open", "_setup", "fd")):
            os.close(given)
        return f"{name} gave {given}"

    _call.__name__ = _name
    PROBES.append(_call)


# Rights and limits.
@probe
def become_root() -> str:
    os.setuid(0)
    return "uid 0"


@probe
def join_the_group_root() -> str:
    os.setgid(0)
    return "gid 0"


@probe
def already_be_root() -> str | None:
    return "uid 0" if 0 in os.getresuid() + os.getresgid() or 0 in os.getgroups() else None


@probe
def hold_capabilities() -> str | None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status[name].strip(), 16)]
    return f"{held}" if held else None


@probe
def gain_rights_by_exec() -> str | None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return "no_new_privs is off" if status["NoNewPrivs"].strip() != "1" else None


@probe
def make_a_device() -> str:
    os.mknod("/out/memory", 0o600 | 0o020000, os.makedev(1, 1))
    return "made a device"


@probe
def raise_the_file_limit() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
    return "raised"


@probe
def raise_the_priority() -> str:
    os.nice(-5)
    return "raised"


@probe
def hide_from_the_oom_killer() -> str:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    return "hidden"


@probe
def rename_the_host() -> str:
    socket.sethostname("escape")
    return "renamed"


@probe
def signal_a_process_of_the_host() -> str:
    os.kill(int(os.environ["PROBE_PID"]), 0)
    return "it exists"


@probe
def see_processes_of_the_host() -> str | None:
    command = Path(f"/proc/{os.environ['PROBE_PID']}/cmdline")
    return f"{command.read_bytes()!r}" if command.exists() else None


@probe
def see_the_hosts_environment() -> str | None:
    secret = os.environb[b"PROBE_MARK"] + b"-secret"
    places = [Path("/proc/1/environ"), Path("/proc/self/environ"), Path(f"/proc/{os.getppid()}/environ")]
    leaks = [str(path) for path in places if os.access(path, os.R_OK) and secret in path.read_bytes()]
    return f"in {leaks}" if leaks or "PROBE_HOST" in os.environ else None


@probe
def inherit_open_files() -> str | None:
    left = []
    for fd in range(3, 256):
        try:
            left.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return f"{left}" if left else None


@probe
def open_too_many_files() -> str | None:
    held: list[int] = []
    try:
        while len(held) < 3000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return None
    finally:
        for fd in held:
            os.close(fd)
    return f"{len(held)} files"


@probe
def start_too_many_processes() -> str | None:
    children: list[int] = []
    try:
        while len(children) < int(os.environ["PROBE_PIDS"]) + 16:
            child = os.fork()
            if not child:
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError:
        return None
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return f"{len(children)} processes"


def filled(path: str, bytes_max: int) -> str | None:
    block = bytes(1 << 20)
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(2 * (bytes_max >> 20) + 2):
                if file.write(block) < len(block):
                    return None
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return f"wrote {2 * bytes_max} bytes to {path}"


@probe
def fill_shared_memory() -> str | None:
    return filled("/dev/shm/bomb", 4 << 20)


@probe
def fill_tmp() -> str | None:
    return filled("/tmp/bomb", int(os.environ["PROBE_TMP"]))


@probe
def write_a_file_over_the_disk_limit() -> str | None:
    return filled("/out/bomb", int(os.environ["PROBE_DISK"]))


def main() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for function in PROBES:
        name = function.__name__
        try:
            result = function()
        except (OSError, ValueError) as error:
            print(f"held {name} ({error})", flush=True)
            continue
        print(f"BROKE {name} ({result})" if result else f"held {name}", flush=True)
    print(f"probed {len(PROBES)}", flush=True)


if __name__ == "__main__":
    main()
