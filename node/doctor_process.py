"""What the doctor says of process snapshots: tried on this host, with CRIU's own word where it does not work."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio

from node.findings import Check, check
from node.gpu import GpuReport
from node.process_tier import criu, cuda, freezer, probe

BUILD: Final = "Optional: packaging/criu/build.sh builds CRIU for this host; the node must be root."


async def checks(folder: Path, report: GpuReport, trusted_nodes: int = 0) -> list[Check]:
    """Two lines, never worse than ok: without, jobs are protected by the other tiers. `folder` keeps the answer."""
    program = await trio.to_thread.run_sync(criu.find)
    found = await probe.load_or_probe(folder, program)
    cause = found.why_not or freezer.why_not()
    if cause:
        cpu = check("process snapshots", "ok", f"not here: {cause}", BUILD)
    else:
        dirty = "" if "mem_dirty_track" in found.features else "; no incremental dumps (the kernel tracks no writes)"
        whose = f"this node and {trusted_nodes} trusted_nodes" if trusted_nodes else "this node only (trusted_nodes)"
        words = f"CRIU {found.criu}, tried on this kernel{dirty}; in runc and bwrap, for images of {whose}"
        cpu = check("process snapshots", "ok", words)
    missing = cuda.why_not(report, cuda.find())
    gpu = f"not here: {missing}" if missing else "cuda-checkpoint is here; not tried"
    return [cpu, check("gpu process snapshots", "ok", gpu)]
