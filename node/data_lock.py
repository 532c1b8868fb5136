"""One node per data directory: an advisory lock that dies with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import Refused, Unavailable


@contextlib.contextmanager
def hold(data: Path) -> Iterator[None]:
    """Own the data directory (made 0700 where it is missing) while the block runs.

    Refused (`data_in_use`) names the process that owns it already; Unavailable when the disk does not let us in."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(
            f"cannot use the data directory {data}: {error.strerror}",
            code="data_unusable",
            fix="Choose another with --data.",
        ) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(data, os.pread(file, 32, 0)) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def _in_use(data: Path, content: bytes) -> Refused:
    owner = content.decode("ascii", "replace").strip()
    who = f"process {owner}" if owner.isdecimal() else "another process"
    return Refused(
        f"{who} already runs a node on {data}",
        code="data_in_use",
        fix=f"Stop it with `shoal node stop --data {data}`, or give this node its own --data.",
        numbers={"pid": owner},
    )
