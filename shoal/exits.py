"""The exit codes of the command line. They are stable: scripts may rely on them."""

from __future__ import annotations

from typing import Final

from protocol.errors import Refused, ShoalError, Unavailable

OK: Final = 0
JOB_FAILED: Final = 1
"""The command worked; the job that it waited for did not, or a simulation broke a rule of the protocol."""
BAD_INPUT: Final = 2
"""Wrong usage, or a file, setting or id that cannot be right."""
REFUSED: Final = 3
"""Understood, and a rule says no: no capacity, too little money, wrong token, wrong state."""
UNAVAILABLE: Final = 4
"""Nobody answers now; the same command may work later."""
FAULT: Final = 5
"""The other side, or this program, is broken."""
INTERRUPTED: Final = 130
"""Ctrl-C."""

_INPUT_CODES: Final = frozenset(
    (
        "file_missing", "path_too_long", "invalid_body", "invalid_query", "invalid_header", "malformed_body",
        "not_a_receipt", "usage", "no_gateway", "unknown_key", "missing_key", "no_trace", "no_run",
    )
)  # fmt: skip


def exit_code(error: ShoalError) -> int:
    """The code for an error.

    >>> exit_code(Refused("?", code="bad_path")), exit_code(Refused("no", code="insufficient_funds"))
    (2, 3)
    """
    if isinstance(error, Refused):
        is_input = error.code in _INPUT_CODES or (error.code.startswith("bad_") and error.code != "bad_state")
        return BAD_INPUT if is_input else REFUSED
    return UNAVAILABLE if isinstance(error, Unavailable) else FAULT
