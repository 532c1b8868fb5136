"""What the doctor says of snapshots: which kinds work here, how fast they leave, what is kept for others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from node.findings import Check, check
from protocol.units import GIB

UPLINK_POOR: Final = 1_250_000
"""Bytes per second: from 10 Mbit/s down, even a small model's snapshot takes its time (specs/28-recovery.md)."""


def checks(
    runtimes: Iterable[str], keep_bytes_max: int, live: Mapping[str, object] | None, process: Check
) -> list[Check]:
    """Three lines. `runtimes`: Python interpreters by name; `live`: `network.status` of the running node, None when
    none runs; `process`: what was found of process snapshots."""
    care = (live or {}).get("care")
    known = care if isinstance(care, Mapping) else None
    return [_tiers(runtimes, process), _uplink(known), _keeping(keep_bytes_max, known)]


def _tiers(runtimes: Iterable[str], process: Check) -> Check:
    names = ", ".join(runtimes)
    memory = f"memory of Python jobs ({names})" if names else "no memory of Python jobs: no interpreter"
    whole = "no images of processes" if process["detail"].startswith("not here") else "images of processes"
    return check("snapshots", "ok", f"{memory}; files in /checkpoint of any job; {whole}")


def _uplink(care: Mapping[str, object] | None) -> Check:
    if care is None:
        return check("uplink", "ok", "measured by what the node sends; no node runs")
    rate = care.get("uplink")
    words = str(care.get("uplink_words"))
    if isinstance(rate, int) and 0 < rate <= UPLINK_POOR:
        fix = "Renters see this: jobs with large states are given to faster lines. A cable instead of Wi-Fi may help."
        return check("uplink", "warn", words, fix)
    return check("uplink", "ok", words)


def _keeping(keep_bytes_max: int, care: Mapping[str, object] | None) -> Check:
    if not keep_bytes_max:
        return check("kept for others", "ok", "nothing: keep_bytes_max is 0", "Optional: give others some disk.")
    used = care.get("kept_bytes") if care is not None else None
    now = f"{used / GIB:.1f} GiB now, " if isinstance(used, int) else ""
    return check("kept for others", "ok", f"{now}at most {keep_bytes_max / GIB:.1f} GiB, encrypted (keep_bytes_max)")
