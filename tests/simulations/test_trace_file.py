"""Traces of the Failure Trace Archive are read as they are written, and whatever else is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from simulations.scenario import NS
from simulations.trace_file import COLUMNS, read

HEADER = "# " + "\t".join(COLUMNS)
GOOD = "0\t0\t11\t1\talpha\t1\t1100000000.5\t1100000060.5\t0"


def trace_of(folder: Path, *lines: str) -> Path:
    file = folder / "event_trace.tab"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_sessions_start_with_the_trace_and_are_cut_with_the_run(tmp_path: Path) -> None:
    trace = read(
        trace_of(
            tmp_path,
            HEADER,
            GOOD,
            "1\t0\t11\t1\talpha\t0\t1100000060.5\t1100000100.5\t3",
            "2\t0\t11\t1\talpha\t1\t1100000100.5\t1100000200.5\t0",
            "",
            "3\t0\t12\t1\tbeta gamma\t1\t1100000000.75\t1100000150.5\tNULL",
        )
    )
    assert trace.length == 200 * NS
    assert trace.sessions(0, 120 * NS) == [(0, 60 * NS), (100 * NS, 120 * NS)]
    assert trace.sessions(1, 120 * NS) == [(NS // 4, 120 * NS)]
    assert trace.sessions(2, 120 * NS) == trace.sessions(0, 120 * NS), "hosts repeat"


def test_a_short_trace_repeats_without_a_seam(tmp_path: Path) -> None:
    trace = read(trace_of(tmp_path, "0 0 5 0 a 1 0 10 x", "1 0 5 0 a 0 10 20 x", "2 0 5 0 a 1 20 30 x"))
    assert trace.sessions(0, 65 * NS) == [(0, 10 * NS), (20 * NS, 40 * NS), (50 * NS, 65 * NS)]


def test_a_trace_of_failures_alone_means_up_in_between(tmp_path: Path) -> None:
    trace = read(trace_of(tmp_path, "0 0 5 0 a 0 100 110 x", "1 0 6 0 b 0 105 140 x", "2 0 5 0 a 0 120 130 x"))
    assert trace.sessions(0, 40 * NS) == [(10 * NS, 20 * NS), (30 * NS, 40 * NS)]
    assert trace.sessions(1, 40 * NS) == [(0, 5 * NS)]


def test_a_host_never_available_is_down(tmp_path: Path) -> None:
    trace = read(trace_of(tmp_path, "0 0 5 0 a 1 0 10 x", "1 0 6 0 b 0 0 10 x"))
    assert [trace.sessions(peer, 10 * NS) for peer in (0, 1)] == [[(0, 10 * NS)], []]


def test_events_of_several_components_and_any_order_are_merged(tmp_path: Path) -> None:
    trace = read(
        trace_of(tmp_path, "#x", "event_id component_id", "0 0 5 0 a 1 20 30", "1 1 5 0 a 1 0 15", "2 0 5 0 a 1 10 20")
    )
    assert trace.sessions(0, 100 * NS)[0] == (0, 100 * NS)


@pytest.mark.parametrize(
    ("line", "field", "what"),
    [
        ("0\t0\t11\t1\talpha\t1", "event_start_time", "missing"),
        (GOOD[: GOOD.index("60.5")], "event_stop_time", "before the start"),
        ("garbage", "component_id", "missing"),
        (GOOD.replace("\t11\t", "\t\t"), "node_id", "empty"),
        (GOOD.replace("\t1\t1100000000", "\t2\t1100000000"), "event_type", "'2'"),
        (GOOD.replace("\t1\t1100000000", "\tup\t1100000000"), "event_type", "'up'"),
        (GOOD.replace("1100000000.5", "soon"), "event_start_time", "'soon'"),
        (GOOD.replace("1100000060.5", "-1"), "event_stop_time", "-1"),
        (GOOD.replace("1100000060.5", "nan"), "event_stop_time", "nan"),
        (GOOD.replace("1100000060.5", "1e999999"), "event_stop_time", "1e999999"),
        (GOOD.replace("1100000060.5", "NULL"), "event_stop_time", "NULL"),
    ],
)
def test_an_unreadable_line_is_named_with_its_field(tmp_path: Path, line: str, field: str, what: str) -> None:
    file = trace_of(tmp_path, HEADER, GOOD, line)
    with pytest.raises(Refused) as caught:
        read(file)
    assert caught.value.code == "bad_trace"
    assert str(file) in caught.value.detail and what in caught.value.detail
    assert caught.value.numbers == {"line": 3, "field": field}
    assert all(column in caught.value.fix for column in COLUMNS)


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", GOOD.replace("60.5", "00.5").encode()])
def test_a_trace_without_events_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "event_trace.tab"
    file.write_bytes(content)
    with pytest.raises(Refused, match="no event that lasts"):
        read(file)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read(tmp_path / "missing.tab")
    assert caught.value.code == "no_trace"
    with pytest.raises(Refused, match="cannot read"):
        read(tmp_path)
    packed = tmp_path / "event_trace.tab.gz"
    packed.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(Refused, match="is no text"):
        read(packed)


@given(junk=st.binary(max_size=300))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    file = tmp_path_factory.mktemp("junk") / "event_trace.tab"
    file.write_bytes(b"0 0 5 0 a 1 0 10 x\n" + junk)
    try:
        trace = read(file)
    except Refused as error:
        assert error.code == "bad_trace" and error.fix
    else:
        assert trace.length >= 10 * NS
