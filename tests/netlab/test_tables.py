"""The published tables: what is expected of a pair, how it is told, and where the text goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.netlab.__main__ import DOCUMENT, NAMES, main, publish
from benchmarks.netlab.pairs import Reached, cell, expected, matrix
from protocol.errors import Refused


def test_expectations_of_pairs() -> None:
    assert expected("public", "tcp-only") == "direct"
    assert expected("remapping", "cgnat") == "punched"
    assert expected("symmetric", "address-restricted") == "punched"
    assert expected("symmetric", "port-restricted") == expected("tcp-only", "udp-blocked") == "relayed"


def test_a_pair_is_told_with_what_it_had_before() -> None:
    pairs = {("a", "b"): Reached("relayed", 0.41, "punched", 1.26), ("a", "c"): Reached("direct", 2.0, "direct", 2.0)}
    assert cell(pairs["a", "b"]) == "punched 1.3 (relayed 0.4)"
    assert matrix(pairs, ["a", "b", "c"]).splitlines()[2:] == [
        "| **a** |  | punched 1.3 (relayed 0.4) | direct 2.0 |",
        "| **b** |  |  | none |",
        "| **c** |  |  |  |",
    ]


def test_a_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n\n<!-- netlab punch -->\n\nold\n\n<!-- end punch -->\n\nafter\n", encoding="utf-8")
    publish(document, "punch", "new")
    assert document.read_text() == "before\n\n<!-- netlab punch -->\n\nnew\n\n<!-- end punch -->\n\nafter\n"
    with pytest.raises(Refused, match="no marks for faults"):
        publish(document, "faults", "new")


def test_the_page_has_a_place_for_every_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"<!-- netlab {name} -->" in text and f"<!-- end {name} -->" in text for name in NAMES)


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["weather"])
    assert "no such part: weather; there are punch, network, faults" in capsys.readouterr().err
