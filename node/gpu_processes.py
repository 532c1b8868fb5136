"""Who else uses the cards, and what the driver reports of them: processes and Xid errors, from NVIDIA's library.

On a host without the library, and where a driver does not tell, everything here answers "nothing".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pynvml

from protocol.units import GIB, MIB

COMPUTE_BYTES_MIN: Final = 128 * MIB
"""Card memory from which a foreign computing process counts as its owner's work: a bare CUDA context takes about as
much, monitors take less."""

GRAPHICS_BYTES_MIN: Final = 1 * GIB
"""Card memory from which a drawing process counts: games take more, desktops and browsers usually less."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one card. `used_bytes` is 0 where the driver does not say."""

    pid: int
    kind: str
    """compute | graphics"""
    used_bytes: int = 0


Listed = Callable[[], list[GpuProcess]]


def nvml_processes() -> list[GpuProcess]:
    """Every process on every card; empty without the library."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    found: list[GpuProcess] = []
    try:
        for index in range(int(pynvml.nvmlDeviceGetCount())):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            for kind, ask in (
                ("compute", pynvml.nvmlDeviceGetComputeRunningProcesses),
                ("graphics", pynvml.nvmlDeviceGetGraphicsRunningProcesses),
            ):
                found += [GpuProcess(int(item.pid), kind, int(item.usedGpuMemory or 0)) for item in ask(handle)]
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()
    return found


class Strangers:
    """Tells whether somebody other than this node's jobs works on the cards."""

    def __init__(
        self,
        listed: Listed = nvml_processes,
        containers: Callable[[], Iterable[str]] = tuple,
        proc: Path = Path("/proc"),
    ) -> None:
        """`containers`: ids of this node's own containers, whose processes are not its children."""
        self._listed = listed
        self._containers = containers
        self._proc = proc

    def at_work(self) -> GpuProcess | None:
        """The first foreign process that uses a card in earnest."""
        busy = [item for item in self._listed() if _in_earnest(item)]
        if not busy:
            return None
        ours = _family()
        ids = tuple(self._containers())
        return next((item for item in busy if item.pid not in ours and not self._is_contained(item.pid, ids)), None)

    def _is_contained(self, pid: int, ids: tuple[str, ...]) -> bool:
        """Whether the kernel says that the process lives in one of these containers."""
        if not ids:
            return False
        try:
            groups = (self._proc / str(pid) / "cgroup").read_text()
        except OSError:
            return True  # Gone already, or not ours to look at: nobody's work is stopped for a guess.
        return any(one in groups for one in ids)


def _in_earnest(item: GpuProcess) -> bool:
    if item.kind == "compute":
        return item.used_bytes == 0 or item.used_bytes >= COMPUTE_BYTES_MIN
    return item.used_bytes >= GRAPHICS_BYTES_MIN


def _family() -> frozenset[int]:
    """This process and all that it started."""
    me = psutil.Process(os.getpid())
    return frozenset((me.pid, *(child.pid for child in me.children(recursive=True))))


class XidEvents:
    """The driver's error reports, as they come. One object per node; `close` it."""

    def __init__(self) -> None:
        """Registers with every card; on a host without the library, or without the right, it stays silent."""
        self._set: object = None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        try:
            wanted = pynvml.nvmlEventSetCreate()
            for index in range(int(pynvml.nvmlDeviceGetCount())):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, wanted)
        except pynvml.NVMLError:
            pynvml.nvmlShutdown()
            return
        self._set = wanted

    @property
    def is_open(self) -> bool:
        """Whether the driver reports to us."""
        return self._set is not None

    def next(self, wait_ms: int) -> int:
        """The number of the next error within `wait_ms`, 0 when there was none."""
        if self._set is None:
            return 0
        try:
            return int(pynvml.nvmlEventSetWait_v2(self._set, wait_ms).eventData)
        except pynvml.NVMLError:
            return 0

    def close(self) -> None:
        """Let go of the library."""
        if self._set is not None:
            pynvml.nvmlEventSetFree(self._set)
            pynvml.nvmlShutdown()
            self._set = None
