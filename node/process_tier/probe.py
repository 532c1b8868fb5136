"""Does a process snapshot work on this very host? Tried, not assumed: CRIU's own check, then one process dumped,
killed and brought back. The answer is kept for as long as kernel and program are the same.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from node.executors import process
from node.process_tier import criu
from node.process_tier.criu import VERSION_MIN, Criu
from protocol.errors import Unavailable

CHECK_SECONDS: Final = 10.0
"""`criu check` takes a tenth of a second."""

TRIP_SECONDS: Final = 20.0
"""A dump or a restore of one small process."""

GROW_SECONDS: Final = 5.0
"""For a program that counts every 2 ms to show that it does."""

CACHE: Final = "process-snapshots.json"
CACHE_BYTES_MAX: Final = 65_536

FEATURES: Final = ("mem_dirty_track", "clone3_set_tid", "uffd", "network_lock_nftables", "move_mount_set_group")
"""Asked one by one; without mem_dirty_track no incremental dump, without clone3_set_tid no free choice of ids."""

PROGRAM: Final = (
    "import os, sys, time\n"
    "file = os.open(sys.argv[1], os.O_RDWR)\n"
    "for n in range(100000):\n"
    "    os.pwrite(file, b'%9d' % n, 0)\n"
    "    time.sleep(0.002)\n"
)
"""Counts into a file."""


class Probe(Struct, frozen=True):
    """What was found."""

    kernel: Annotated[str, Meta(max_length=256)]
    criu: Annotated[str, Meta(max_length=32)]
    program: Annotated[str, Meta(max_length=4096)]
    why_not: Annotated[str, Meta(max_length=512)]
    """Empty where process snapshots work."""
    features: tuple[Annotated[str, Meta(max_length=64)], ...] = ()


async def load_or_probe(folder: Path, program: Criu | None) -> Probe:
    """The kept answer when kernel and program are the same, else a new one (about a second), which is kept."""
    kernel = platform.release()
    cache = folder / CACHE
    key = (kernel, program.version if program else "", str(program.path) if program else "")
    try:
        kept = msgspec.json.decode(cache.read_bytes()[:CACHE_BYTES_MAX], type=Probe)
        if program and (kept.kernel, kept.criu, kept.program) == key:
            return kept
    except (OSError, msgspec.DecodeError):
        pass
    cause = why_not_try(program)
    if cause or program is None:
        return Probe(*key, cause)
    features = tuple([name for name in FEATURES if await _has(program, name)])
    found = Probe(*key, await _try(program), features)
    await trio.to_thread.run_sync(_keep, cache, found)
    return found


def _keep(cache: Path, found: Probe) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".part")
    partial.write_bytes(msgspec.json.encode(found))
    partial.replace(cache)


def why_not_try(program: Criu | None) -> str:
    """What rules it out without a trial; empty when nothing does."""
    if platform.system() != "Linux":
        return "process snapshots need Linux"
    if program is None:
        return f"no own build of CRIU at {criu.own_build()}"
    if not program.is_new_enough:
        return f"CRIU {program.version} is too old, {'.'.join(map(str, VERSION_MIN))} is the oldest"
    if os.geteuid() != 0:
        return "CRIU needs root"
    return ""


async def _has(program: Criu, feature: str) -> bool:
    code, _ = await criu.run([str(program.path), "check", "--feature", feature], CHECK_SECONDS, folder=Path("/"))
    return code == 0


async def _try(program: Criu) -> str:
    """Empty when everything works; otherwise what did not."""
    try:
        code, text = await criu.run([str(program.path), "check"], CHECK_SECONDS, folder=Path("/"))
        if code:
            return f"criu check: {text.strip()[-criu.REASON_CHARS :]}"
        with tempfile.TemporaryDirectory(prefix="shoal-criu-") as name:
            return await _round_trip(program, Path(name))
    except Unavailable as unavailable:
        return unavailable.detail


async def _round_trip(program: Criu, folder: Path) -> str:
    images = folder / "images"
    images.mkdir()
    count = folder / "count"
    common = ["-D", str(images), "--manage-cgroups=ignore", "--network-lock", "skip"]
    count.touch()
    task = await trio.to_thread.run_sync(_start, count)
    try:
        if not await _grows(count):
            return "a trial process does not run"
        dump = [str(program.path), "dump", "-t", str(task.pid), *common, "-o", "dump.log"]
        code, _ = await criu.run(dump, TRIP_SECONDS, folder=folder)
        if code:
            return f"a trial dump failed: {criu.why(images / 'dump.log')}"
    finally:
        process.kill_group(task.pid)
        await trio.to_thread.run_sync(task.wait)
    number = folder / "pid"
    restore = [str(program.path), "restore", *common, "-o", "restore.log", "-d", "--pidfile", str(number)]
    code, _ = await criu.run(restore, TRIP_SECONDS, folder=folder)
    try:
        if code:
            return f"a trial restore failed: {criu.why(images / 'restore.log')}"
        return "" if await _grows(count) else "a trial process came back, but does not run"
    finally:
        if number.exists():
            process.kill_group(int(number.read_text()))


def _start(count: Path) -> subprocess.Popen[bytes]:
    """The trial process, in a session of its own, with nothing of ours open."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(count)]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True, cwd="/")


async def _grows(count: Path) -> bool:
    """Whether somebody counts in the file now."""
    before = _content(count)
    with trio.move_on_after(GROW_SECONDS):
        while _content(count) == before:  # noqa: ASYNC110  another program's file tells nobody
            await trio.sleep(0.005)
        return True
    return False


def _content(count: Path) -> bytes:
    return count.read_bytes()
