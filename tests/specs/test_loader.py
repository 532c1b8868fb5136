"""The loader of executable specifications: what it takes from a document, and what it refuses."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import specs

DOCUMENT = """# 42 · An example

| status | revision |
| --- | --- |
| draft | 3 |

## Constants

| NAME | value | why |
| --- | --- | --- |
| SECOND | 1_000_000 | The unit of time, in microseconds. |
| `BEAT_INTERVAL` | `2 * SECOND` | Constants build on earlier ones. |
| LIMIT | -3 | Negative numbers are numbers. |
| PATIENCE | 5_000_000 µs | A unit may follow. |
| PHI | 8.5 | |
| MODE | fast | Text stays text. |

## States

| state | on | next |
| --- | --- | --- |
| idle | `start` \\| `resume` | busy |

```text
| NOT | a table |
```

```python
from math import gcd

def due(now: int) -> int:
    return now + BEAT_INTERVAL
```

More prose, and a block that uses the one before it.

```python
class Clock: ...

def broken() -> None:
    raise ValueError(due(0))
```
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "42-example.md").write_text(DOCUMENT, encoding="utf-8")
    return tmp_path


def test_constants(folder: Path) -> None:
    assert dict(specs.load("42-example", folder).constants) == {
        "SECOND": 1_000_000,
        "BEAT_INTERVAL": 2_000_000,
        "LIMIT": -3,
        "PATIENCE": 5_000_000,
        "PHI": 8.5,
        "MODE": "fast",
    }


def test_functions_see_constants_and_each_other(folder: Path) -> None:
    spec = specs.load("42-example", folder)
    assert spec.functions["due"](5) == 2_000_005
    assert set(spec.functions) == {"due", "broken", "Clock"}, "what a block imports is not the document's"


def test_tables_by_heading(folder: Path) -> None:
    spec = specs.load("42-example", folder)
    assert spec.table("states") == ({"state": "idle", "on": "`start` | `resume`", "next": "busy"},)
    assert spec.table("42 · An example") == ({"status": "draft", "revision": "3"},)
    with pytest.raises(KeyError, match="no table below a heading 'rules'"):
        spec.table("rules")


def test_a_traceback_points_into_the_document(folder: Path) -> None:
    with pytest.raises(ValueError, match="2000000") as caught:
        specs.load("42-example", folder).functions["broken"]()
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.filename == str(folder / "42-example.md")
    line = DOCUMENT.splitlines()[(frame.lineno or 0) - 1]
    assert line == "    raise ValueError(due(0))"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("| NAME | value |\n| --- | --- |\n| A | 1 |\n| A | 2 |\n", ValueError, "A is defined twice"),
        (
            "| NAME | value |\n| --- | --- |\n| A | 1 | 2 |\n",
            ValueError,
            "01-bad.md:3: 3 cells in a table of 2 columns",
        ),
        ("```python\ndef f(:\n```\n", SyntaxError, "01-bad.md, line 2"),
    ],
)
def test_a_broken_document_says_where(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    (tmp_path / "01-bad.md").write_text(text, encoding="utf-8")
    with pytest.raises(error) as caught:
        specs.load("01-bad", tmp_path)
    assert message in str(caught.value)


def test_cells_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "01-cell.md").write_text("| NAME | value |\n| - | - |\n| A | exit(1) |\n", encoding="utf-8")
    assert specs.load("01-cell", tmp_path).constants["A"] == "exit(1)"


@pytest.mark.parametrize("name", specs.names())
def test_every_document_loads_and_opens_with_its_header(name: str) -> None:
    spec = specs.load(name)
    header = spec.tables[0][1][0]
    assert {"status", "revision"} <= set(header), f"specs/{name}.md opens with a table of its status and revision"
