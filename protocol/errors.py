"""Whose fault it is, and whether it is worth trying again.

    ShoalError
    ├── LocalError           we broke our own contract; never caught, ends the task
    ├── RemoteViolation      a peer broke a rule: scored, maybe slashed
    ├── Refused              valid, but a rule says no: told to the caller with the numbers that disagreed
    └── Unavailable          not now: retry with back-off

A class of its own exists only where someone catches it by itself. `code` is stable and machine-readable.
"""

from __future__ import annotations

from protocol.units import PeerId


class ShoalError(Exception):
    """The root: expected during normal operation, always explained to somebody."""

    def __init__(self, detail: str, *, code: str = "error", fix: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.fix = fix
        """What the reader can do about it, one sentence; empty when nothing can be done."""


class LocalError(ShoalError):
    """We broke our own contract. Ends the task."""


class RemoteViolation(ShoalError):
    """A peer broke a rule of the protocol."""

    def __init__(self, peer: PeerId, rule: str, *, code: str = "violation") -> None:
        super().__init__(rule, code=code)
        self.peer = peer
        self.rule = rule


class Refused(ShoalError):
    """A valid request that a rule refuses. `numbers` holds what disagreed, by name."""

    def __init__(
        self, detail: str, *, code: str = "refused", fix: str = "", numbers: dict[str, int | str] | None = None
    ) -> None:
        super().__init__(detail, code=code, fix=fix)
        self.numbers = numbers or {}


class Unavailable(ShoalError):
    """Not now. Retrying later may work."""
