"""What a node does for the safety of others' work, as text for its owner."""

from __future__ import annotations

from collections.abc import Mapping

from shoal.output import short_peer, size_text, span_text, table, time_text

Row = Mapping[str, object]


def care_rows(status: Row) -> list[tuple[str, object]]:
    """Lines for `shoal node status`: what is kept for others, how fast this host sends, what it handed over."""
    care = status.get("care")
    if not isinstance(care, Mapping):
        return []
    kept = f"{_size(care['kept_bytes'])} of {_size(care['keep_bytes_max'])} for others"
    if care["kept_shards"]:
        kept += f", {care['kept_shards']} shards, until {time_text(care['kept_until'])} UTC"
    return [
        ("keeps", kept),
        ("uplink", care["uplink_words"]),
        ("protects", f"{len(_leases(care))} running chunks, {status.get('handovers', 0)} handed over so far"),
    ]


def protected_text(status: Row) -> str:
    """One line per running chunk whose snapshots are taken; empty without any."""
    care = status.get("care")
    rows = [
        (str(one["job"])[:12], one["chunk"], one["tier"] or "–", one["step"] or "–", _size(one["bytes"]),
         _age(one["age_us"]), short_peer(one["standby"]), one["kept"] or one["reason"] or "no snapshot is durable yet")
        for one in _leases(care)
    ]  # fmt: skip
    heads = ("snapshots of", "chunk", "tier", "safe step", "state", "age", "standby", "kept")
    return table(heads, rows, right=(1, 3, 4, 5))


def _leases(care: object) -> list[Row]:
    listed = care.get("protected") if isinstance(care, Mapping) else None
    return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []


def _size(size: object) -> str:
    return size_text(size) if isinstance(size, int) else "–"


def _age(age: object) -> str:
    return span_text(max(0, age)) if isinstance(age, int) else "–"
