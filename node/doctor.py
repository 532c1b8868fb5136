"""Is this machine fit to be a node? Every check names what it found and, where it did not pass, what to do."""

from __future__ import annotations

import errno
import platform
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict

import trio

from node import doctor_network, doctor_process, doctor_reach, doctor_snapshots, runtimes
from node.attester import check_hardware
from node.executors import ladder, wasm
from node.executors.interface import ISOLATING
from node.findings import Check, Status, check, fix_first
from node.gpu import GpuSource, HostSource, memory_text
from protocol.errors import Refused
from protocol.units import GIB, SECOND, Micros

PYTHON_MIN: Final = (3, 11)
"""The oldest Python that the node is tested with."""

DISK_BYTES_MIN: Final = 1 * GIB
"""Less does not hold one job's inputs, outputs and the ledger."""

DISK_BYTES_COMFORT: Final = 10 * GIB
"""Below this a node works, but refuses large jobs."""

OPEN_FILES_MIN: Final = 1024
OPEN_FILES_COMFORT: Final = 4096
"""Connections, blobs and pipes of a busy node; systemd's default is 524 288."""

CLOCK_EARLIEST: Final = Micros(1_735_689_600 * SECOND)
"""2025-01-01: a clock before this was never set, and every lease would look expired."""


class Tier(TypedDict):
    """One sandbox of the report."""

    tier: str
    usable: bool
    why_not: str
    protects: str
    does_not_protect: str


class Diagnosis(TypedDict):
    """The whole report, ready for JSON. `executor` = the strongest isolating tier, or empty."""

    checks: list[Check]
    healthy: bool
    executor: str
    executors: list[Tier]
    fix_first: str
    """The one thing to fix; empty when there is nothing."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined. `ports` = TCP ports that the node wants to listen on and that must be free (0 is skipped)."""

    folder: Path
    now: Micros
    drift: Micros = Micros(0)
    """How far the wall clock has moved against the monotonic one (node.clock.Clock.drift)."""
    ports: tuple[int, ...] = ()
    interpreters: Mapping[str, Path] = field(default_factory=dict)
    gpus: GpuSource = field(default_factory=HostSource)
    label: str = "doctor"
    listen: tuple[str, ...] = ()
    bootstraps: tuple[str, ...] = ()
    live: Mapping[str, object] | None = None
    """`network.status` of the running node; None when none runs, then the doctor looks around by itself."""
    keep_bytes_max: int = 0
    """Bytes of others' snapshots and volumes that the node may keep."""
    trusted_nodes: int = 0
    """How many other nodes of the same owner are named."""
    attestation: str = "auto"
    """Where trusted hardware signs (`node.config.Config.attestation`)."""


async def diagnose(patient: Patient) -> Diagnosis:
    """Run every check; takes about a second. Never raises for what it finds."""
    rungs = await ladder.examine(ladder.ladder(patient.label, patient.folder / "images"))
    best = next((rung.tier for rung in rungs if not rung.why_not and rung.tier in ISOLATING - {"wasm"}), "")
    blocking: Sequence[Callable[[], Check]] = (
        check_python,
        lambda: check_disk(patient.folder),
        lambda: check_clock(patient.now, patient.drift),
        lambda: check_gpu(patient.gpus),
        lambda: check_hardware(patient.attestation, patient.folder),
        check_open_files,
        lambda: check_runtimes(patient.interpreters),
        *(lambda port=port: check_port(port, patient.live is not None) for port in patient.ports if port),
    )
    checks = [await trio.to_thread.run_sync(look) for look in blocking]
    checks += await _network(patient)
    checks += [_rung_check(rung, best) for rung in rungs]
    checks.append(_best_check(best))
    report = await trio.to_thread.run_sync(patient.gpus.read)
    process = await doctor_process.checks(patient.folder, report, patient.trusted_nodes)
    names: list[str] = sorted({*patient.interpreters, *(["python"] if runtimes.default_interpreter() else [])})
    checks += [*doctor_snapshots.checks(names, patient.keep_bytes_max, patient.live, process[0]), *process]
    return {
        "checks": checks,
        "healthy": all(found["status"] != "fail" for found in checks),
        "executor": best,
        "executors": [_tier(rung) for rung in rungs],
        "fix_first": fix_first(checks),
    }


async def _network(patient: Patient) -> list[Check]:
    """What the running node says of the network, else what can be found out without it."""
    around = doctor_network.Surroundings(patient.folder, patient.listen, patient.bootstraps)
    if patient.live is None:
        return await doctor_network.examine(around)
    local = [*doctor_network.check_addresses(around), *doctor_network.check_identity(around.folder)]
    return [*local, *doctor_reach.live_checks(patient.live, patient.now)]


def check_python() -> Check:
    """The interpreter of the node itself."""
    found = platform.python_version()
    if sys.version_info[:2] < PYTHON_MIN:
        return check("python", "fail", f"Python {found}", f"Install Python {'.'.join(map(str, PYTHON_MIN))} or later.")
    return check("python", "ok", f"Python {found} on {platform.system()} {platform.machine()}")


def check_disk(folder: Path) -> Check:
    """Room below the data folder."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{free / GIB:.1f} GiB free at {existing}"
    if free < DISK_BYTES_MIN:
        return check(
            "disk", "fail", detail, f"Free at least {DISK_BYTES_MIN / GIB:.0f} GiB or choose another data folder."
        )
    if free < DISK_BYTES_COMFORT:
        return check("disk", "warn", detail, f"{DISK_BYTES_COMFORT / GIB:.0f} GiB let the node take larger jobs.")
    return check("disk", "ok", detail)


def check_clock(now: Micros, drift: Micros) -> Check:
    """A clock that was set, and that does not jump."""
    if now < CLOCK_EARLIEST:
        return check(
            "clock", "fail", "the clock shows a date before 2025", "Set the clock, best by NTP (systemd-timesyncd)."
        )
    if abs(drift) > SECOND:
        detail = f"the clock moved by {drift / SECOND:.1f} s against the monotonic one"
        return check("clock", "warn", detail, "Let NTP slew the clock; other peers see our times shifted.")
    return check("clock", "ok", "set and steady")


def check_gpu(source: GpuSource) -> Check:
    """Cards that can be offered; none is fine, one that cannot be talked to is worth a word."""
    report = source.read()
    if report.status == "found":
        return check("gpu", "ok", ", ".join(f"{card.name} ({memory_text(card)})" for card in report.gpus))
    if report.status == "driver_missing":
        return check("gpu", "warn", report.detail, report.fix)
    return check("gpu", "ok", "no GPU; the node offers its CPU")


def check_open_files() -> Check:
    """RLIMIT_NOFILE of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files (at most {hard})"
    if soft < OPEN_FILES_MIN:
        return check("open files", "fail", detail, f"Raise the limit: ulimit -n {OPEN_FILES_COMFORT}.")
    if soft < OPEN_FILES_COMFORT:
        return check(
            "open files", "warn", detail, f"ulimit -n {OPEN_FILES_COMFORT} lets the node keep more connections."
        )
    return check("open files", "ok", detail)


def check_runtimes(interpreters: Mapping[str, Path]) -> Check:
    """Every configured interpreter answers."""
    try:
        found = runtimes.discover(interpreters, wasm.engine_digest())
    except Refused as refusal:
        return check("runtimes", "fail", refusal.detail, refusal.fix)
    detail = "; ".join(f"{name}: {runtime.description}" for name, runtime in sorted(found.items()))
    if "python" not in found:
        return check("runtimes", "warn", detail, "Install python3: most jobs need it.")
    return check("runtimes", "ok", detail)


def check_port(port: int, is_running: bool = False) -> Check:
    """Nobody else listens on a port. `is_running`: the node itself may."""
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return check(name, "fail", error.strerror or str(error), "Choose a port above 1023.")
            if is_running:
                return check(name, "ok", "used by the running node")
            holder = doctor_network.port_holder(port)
            return check(
                name,
                "fail",
                f"{error.strerror}: {holder or 'a program of another user'}",
                "Choose another port (--listen), or stop the program that listens there.",
            )
    return check(name, "ok", "free")


_FIXES: Final = {
    "docker": "Install and start an engine (Debian: apt install docker.io), and put the node's user into its group.",
    "runc": "Debian: apt install runc; the node must be root.",
    "bwrap": "Debian: apt install bubblewrap; allow user namespaces (sysctl kernel.unprivileged_userns_clone=1).",
    "wasm": "Install the Python package wasmtime.",
    "child": "Debian: apt install util-linux.",
}


def _rung_check(rung: ladder.Rung, best: str) -> Check:
    if not rung.why_not:
        return check(f"sandbox {rung.tier}", "ok", "usable" + (", the default" if rung.tier == best else ""))
    status: Status = "ok" if best and rung.tier != "wasm" else "warn"
    return check(f"sandbox {rung.tier}", status, rung.why_not, _FIXES[rung.tier])


def _best_check(best: str) -> Check:
    if best:
        return check("isolation", "ok", f"strangers' jobs run in the sandbox `{best}`")
    fix = "Install bubblewrap (apt install bubblewrap) or an engine; without, only WASM and the owner's jobs run."
    return check("isolation", "warn", "no sandbox for ordinary programs", fix)


def _tier(rung: ladder.Rung) -> Tier:
    protects, does_not = ladder.PROTECTS[rung.tier]
    return {
        "tier": rung.tier,
        "usable": not rung.why_not,
        "why_not": rung.why_not,
        "protects": protects,
        "does_not_protect": does_not,
    }
