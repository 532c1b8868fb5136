"""What commands say, and where."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.credits import credits_from_text, credits_text
from protocol.errors import Refused, ShoalError, Unavailable
from shoal import exits
from shoal.output import Output, clean, table
from shoal.session import ServerFault


class Terminal(io.StringIO):
    """A stream that a person watches."""

    def isatty(self) -> bool:
        return True


def test_people_get_tables_and_programs_get_json() -> None:
    for as_json, expected in ((False, "a table\n"), (True, '{\n  "x": 1\n}\n')):
        stdout, stderr = io.StringIO(), io.StringIO()
        out = Output(stdout, stderr, {}, as_json=as_json)
        out.data({"x": 1}, lambda: "a table")
        out.say("talk")
        assert stdout.getvalue() == expected
        assert stderr.getvalue() == "talk\n"


def test_quiet_keeps_the_data_and_drops_the_talk() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    out = Output(stdout, stderr, {}, is_quiet=True)
    out.say("talk")
    out.data({}, lambda: "data")
    out.fail(Refused("no"))
    assert stdout.getvalue() == "data\n"
    assert stderr.getvalue().startswith("error: no")


def test_an_error_is_one_line_for_the_cause_and_one_for_the_fix() -> None:
    error = Refused("too\nmany", code="over_limit", fix="Fewer.", numbers={"limit": 3})
    stderr = io.StringIO()
    Output(io.StringIO(), stderr, {}).fail(error)
    assert stderr.getvalue() == "error: too many [over_limit]\nfix: Fewer.\n"
    stderr = io.StringIO()
    Output(io.StringIO(), stderr, {}, as_json=True).fail(error)
    assert json.loads(stderr.getvalue()) == {
        "error": {"code": "over_limit", "detail": "too\nmany", "fix": "Fewer.", "numbers": {"limit": 3}}
    }


@pytest.mark.parametrize(
    ("stream", "environment", "has_colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    stream: io.StringIO, environment: dict[str, str], has_colour: bool
) -> None:
    assert ("\x1b" in Output(stream, stream, environment).tone("x", "good")) == has_colour


def test_a_table_aligns_its_columns() -> None:
    assert table(("who", "n"), [("a", 1), ("bcd", 22)], right=(1,)) == "WHO   N\na     1\nbcd  22"
    assert table(("who",), []) == ""


@given(st.text())
def test_nothing_from_strangers_reaches_the_terminal_as_a_command(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) == len(text)


@given(st.integers(0, 10**18 - 1))
def test_credits_are_exact_both_ways(amount: int) -> None:
    assert credits_from_text(credits_text(amount)) == amount


@pytest.mark.parametrize("text", ["", "-1", "1.", ".5", "1e3", "1,5", "0.0000001", "９", "1" * 13, "one"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="no amount of credits"):
        credits_from_text(text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("x", code="bad_job_file"), 2), (Refused("x", code="usage"), 2), (Refused("x", code="bad_state"), 3),
        (Refused("x", code="no_capacity"), 3), (Unavailable("x"), 4), (ServerFault("x"), 5), (ShoalError("x"), 5),
    ],
)  # fmt: skip
def test_exit_codes_are_stable(error: ShoalError, code: int) -> None:
    assert exits.exit_code(error) == code
