"""`shoal node status` of a validator: who drifts is listed, and nothing is said where nobody does."""

from __future__ import annotations

from shoal.commands.node import _status_text

STATUS: dict[str, object] = {
    "peer": "12D3KooWx", "network": "n", "roles": ["validator"], "now": 2, "started": 1, "addresses": [],
    "connected": [],
    "slots": 0, "slots_free": 0, "is_draining": False, "price_per_hour": 1, "executors": [], "ledger": {"height": 7},
    "available": 0, "stake": 0, "running": [], "care": None, "handovers": 0,
}  # fmt: skip
FOUND = {"provider": "12D3KooWy", "profile": "training/sgd/1", "units": 40, "detail": "z 6.3 along the updates"}


def test_who_drifts_is_listed() -> None:
    text = _status_text(STATUS | {"drifting": [FOUND]})
    assert all(str(value) in text for value in FOUND.values())


def test_nobody_drifts() -> None:
    assert "drifting" not in _status_text(STATUS | {"drifting": []})
    assert "drifting" not in _status_text(STATUS), "of a node of an earlier release"


def test_offers_that_were_not_shown_are_listed_with_both_figures() -> None:
    row = {"peer": "…QmA", "kind": "gpu", "code": "too_slow", "claimed": 1_979_000_000, "shown": 19_000_000}
    text = _status_text(STATUS | {"unshown": [row]})
    assert "too_slow" in text and "1979000" in text and "19000" in text
    assert "claimed" not in _status_text(STATUS)
