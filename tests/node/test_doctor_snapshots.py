"""What the doctor says of snapshots: what works here, how fast they leave, what is kept for others."""

from __future__ import annotations

from node.doctor_snapshots import checks
from node.findings import check
from protocol.units import GIB

ABSENT = check("process snapshots", "ok", "not here: no criu")


def test_without_a_running_node() -> None:
    tiers, uplink, kept = checks(["python", "torch"], 5 * GIB, None, ABSENT)
    assert tiers["detail"].startswith("memory of Python jobs (python, torch); files in /checkpoint")
    assert tiers["detail"].endswith("no images of processes")
    assert uplink["detail"].endswith("no node runs")
    assert kept["detail"] == "at most 5.0 GiB, encrypted (keep_bytes_max)"


def test_with_a_running_node() -> None:
    care = {"uplink": 12_000_000, "uplink_words": "96 Mbit/s", "kept_bytes": GIB // 2}
    tiers, uplink, kept = checks([], 5 * GIB, {"care": care}, check("process snapshots", "ok", "CRIU 4.2, tried"))
    assert tiers["detail"].startswith("no memory of Python jobs") and tiers["detail"].endswith("; images of processes")
    assert (uplink["status"], uplink["detail"]) == ("ok", "96 Mbit/s")
    assert kept["detail"].startswith("0.5 GiB now, at most 5.0 GiB")


def test_a_slow_line_is_worth_a_word() -> None:
    slow = checks([], 0, {"care": {"uplink": 500_000, "uplink_words": "4 Mbit/s"}}, ABSENT)
    assert (slow[1]["status"], bool(slow[1]["fix"])) == ("warn", True)
    assert slow[2]["detail"] == "nothing: keep_bytes_max is 0"


def test_a_node_too_old_to_say() -> None:
    assert checks([], GIB, {}, ABSENT)[1]["status"] == "ok"
