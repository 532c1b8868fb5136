"""examples/script: every text is counted once, and the same way every time."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

RunJob = Callable[[str, Path, Mapping[str, str], Path], dict[str, bytes]]
TEXTS = Path(__file__).parents[2] / "examples" / "script" / "texts"


def test_two_runs_give_the_same_table(run_job: RunJob, tmp_path: Path) -> None:
    first = run_job("script", tmp_path / "a", {}, Path(sys.executable))
    assert sorted(first) == ["table.csv", "words.json"]
    assert first == run_job("script", tmp_path / "b", {}, Path(sys.executable))


def test_every_text_is_counted_once(run_job: RunJob, tmp_path: Path) -> None:
    found = run_job("script", tmp_path, {"SHORTEST": "3"}, Path(sys.executable))
    rows = list(csv.DictReader(io.StringIO(found["table.csv"].decode())))
    assert [row["text"] for row in rows] == sorted(path.stem for path in TEXTS.glob("*.txt"))
    assert all(int(row["words"]) > int(row["different"]) > 50 for row in rows)
    words = json.loads(found["words.json"])
    assert next(iter(words)) == "the"
    said = sum(path.read_text().lower().replace("\n", " ").split().count("water") for path in TEXTS.glob("*.txt"))
    assert words["water"] >= said > 5
