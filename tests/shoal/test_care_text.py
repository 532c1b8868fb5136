"""What an owner reads of the work that is kept and protected here."""

from __future__ import annotations

from protocol.units import GIB, SECOND
from shoal.care_text import care_rows, protected_text

LEASE = {
    "job": "job_4f2a91c0aa", "chunk": 3, "epoch": 2, "tier": "framework", "step": 1840, "bytes": GIB // 2,
    "age_us": 7 * SECOND, "standby": "12D3KooWAbCdEfGhIjKl", "reason": "",
    "kept": "kept by 3 peers in 3 failure domains",
}  # fmt: skip
CARE = {
    "kept_bytes": GIB, "kept_shards": 41, "kept_until": 1_800_000_000 * SECOND, "keep_bytes_max": 5 * GIB,
    "uplink": 12_000_000, "uplink_words": "96 Mbit/s", "protected": [LEASE],
}  # fmt: skip


def test_rows_for_the_status() -> None:
    rows = dict(care_rows({"care": CARE, "handovers": 2}))
    assert rows["keeps"] == "1.0 GiB of 5.0 GiB for others, 41 shards, until 2027-01-15 08:00:00 UTC"
    assert rows["uplink"] == "96 Mbit/s"
    assert rows["protects"] == "1 running chunks, 2 handed over so far"


def test_a_line_per_protected_lease() -> None:
    text = protected_text({"care": {**CARE, "protected": [LEASE, {**LEASE, "tier": "", "kept": "", "age_us": None}]}})
    assert "512.0 MiB" in text and "7.0 s" in text and "kept by 3 peers" in text
    assert "no snapshot is durable yet" in text


def test_nothing_without_custody() -> None:
    assert care_rows({"care": None}) == [] and care_rows({}) == []
    assert protected_text({}) == ""
    assert "shards" not in str(dict(care_rows({"care": {**CARE, "kept_shards": 0}}))["keeps"])
