"""Lines of a task that may have been shown before: held until it is known whether it goes on or begins again."""

from __future__ import annotations

from typing import Final

from node.executors.interface import OnLine

HELD_LINES_MAX: Final = 4_096
"""Lines kept back; a program that says more before its first loop is heard at once."""


class HeldLines:
    """Stands in front of a log. `line` is an `OnLine`."""

    def __init__(self, on_line: OnLine, *, is_holding: bool) -> None:
        self.on_line = on_line
        self._is_holding = is_holding
        self._before: list[str] = []
        self._held: list[str] = []

    def line(self, text: str) -> None:
        """One line of the task."""
        if not self._is_holding:
            self.on_line(text)
            return
        self._held.append(text)
        if len(self._held) > HELD_LINES_MAX:
            self.show()

    def hold(self) -> None:
        """From now on lines may be old ones."""
        self._is_holding = True

    def fence(self) -> None:
        """The task waits: what is held came before its loop, what comes now does not."""
        self._before, self._held = self._held, []

    def drop(self) -> None:
        """It goes on where it was: what came before the fence has been shown before."""
        self._before = []
        self.show()

    def show(self) -> None:
        """It begins again: what is held is news. Later lines are, too."""
        self._is_holding = False
        held, self._before, self._held = [*self._before, *self._held], [], []
        for text in held:
            self.on_line(text)
