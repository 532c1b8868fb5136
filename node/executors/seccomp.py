"""System calls that no job needs and that past break-outs used, as a BPF program for bwrap and a profile for runc.

A deny list on top of namespaces, dropped capabilities and no-new-privileges, in the spirit of Docker's default profile
(moby profiles/seccomp/default.json). Numbers from the kernel's own tables (arch/x86/entry/syscalls/syscall_64.tbl,
include/uapi/asm-generic/unistd.h).
"""

from __future__ import annotations

import platform
import struct
from typing import Final

DENIED: Final = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "sethostname": (170, 161),
    "setdomainname": (171, 162), "move_pages": (279, 239), "migrate_pages": (256, 238),
    "lookup_dcookie": (212, 18), "fanotify_init": (300, 262), "kcmp": (312, 272), "vhangup": (153, 58),
    "nfsservctl": (180, 42), "personality": (135, 92),
}  # fmt: skip
"""Name -> number on (x86_64, aarch64). Each answers EPERM."""

DENIED_X86_ONLY: Final = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "_sysctl": 156}

FAMILIES_DENIED: Final = {"AF_KEY": 15, "AF_NETLINK": 16, "AF_PACKET": 17, "AF_ALG": 38, "AF_VSOCK": 40, "AF_XDP": 44}
"""Socket families that network namespaces do not contain well, or that only attacks use."""

CLONE_NEW_MASK: Final = 0x7E020000
"""CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET."""

_ARCHES: Final = {"x86_64": (0, 0xC000003E, 41, 56), "aarch64": (1, 0xC00000B7, 198, 220)}
"""Machine -> (column of DENIED, AUDIT_ARCH, number of socket, number of clone). clone3 is 435 on both."""

_CLONE3: Final = 435
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_GE, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
_X32_BIT: Final = 0x40000000


def is_supported() -> bool:
    """True where the numbers of this machine are known."""
    return platform.machine() in _ARCHES


def program(machine: str) -> bytes:
    """The filter as `struct sock_filter[]`: foreign architectures die, denied calls get EPERM, clone3 gets ENOSYS
    (so that the C library falls back to clone, whose flags can be checked)."""
    column, arch, socket_number, clone_number = _ARCHES[machine]
    denied = sorted(numbers[column] for numbers in DENIED.values())
    if column == 0:
        denied += sorted(DENIED_X86_ONLY.values())
    code = [(_LOAD, 0, 0, _ARCH_AT), (_JUMP_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER_AT)]
    if column == 0:
        code += [(_JUMP_GE, 0, 1, _X32_BIT), (_RETURN, 0, 0, _EPERM)]
    for number in denied:
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    code += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ENOSYS)]
    code += [(_JUMP_EQUAL, 0, 3, clone_number), (_LOAD, 0, 0, _ARGUMENT_AT)]
    code += [(_JUMP_SET, 0, 1, CLONE_NEW_MASK), (_RETURN, 0, 0, _EPERM), (_LOAD, 0, 0, _NUMBER_AT)]
    families = sorted(FAMILIES_DENIED.values())
    code += [(_JUMP_EQUAL, 0, 1 + 2 * len(families), socket_number), (_LOAD, 0, 0, _ARGUMENT_AT)]
    for family in families:
        code += [(_JUMP_EQUAL, 0, 1, family), (_RETURN, 0, 0, _EPERM)]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def oci_profile(machine: str) -> dict[str, object]:
    """The same rules in the OCI runtime specification's words (config.json, linux.seccomp)."""
    names = [*DENIED, *(DENIED_X86_ONLY if machine == "x86_64" else ())]
    rules: list[dict[str, object]] = [
        {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
    ]
    for family in FAMILIES_DENIED.values():
        arguments = [{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]
        rules.append({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": arguments})
    for bit in range(32):
        if CLONE_NEW_MASK >> bit & 1:
            flag = 1 << bit
            arguments = [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]
            rules.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": arguments})
    arch = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[machine]
    return {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch], "syscalls": rules}
