"""`shoal node reclaim`: how the time is written, and what is said when no node runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import Refused
from shoal.cli import main
from shoal.commands.reclaim import span


@pytest.mark.parametrize(
    ("said", "micros"), [("10s", 10_000_000), ("2m", 120_000_000), ("1.5", 1_500_000), ("1min", 60_000_000)]
)
def test_times(said: str, micros: int) -> None:
    assert span(said) == micros


@pytest.mark.parametrize("said", ["", "s", "-1s", "10h", "1e3", "ten"])
def test_no_times(said: str) -> None:
    with pytest.raises(Refused, match="is no time"):
        span(said)


def test_no_node_runs_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "reclaim", "--data", str(tmp_path)]) == 4
    assert "node" in capsys.readouterr().err
