"""The hook's life in a job: what happens when a loop begins, at each of its heads, and after an optimizer's step.

Four modes. run: look at `__shoal_due__` and nothing else. parked: run to the first loop that matters, wait there.
resume: execute the prefix again, entering the loops of the snapshot where they stood. off: the job is alone.
"""

from __future__ import annotations

import builtins
import itertools
import operator
import os
import sys
import threading
import time
import types
from collections.abc import Callable

from . import frames, iterators, outfiles, streams
from .board import Board
from .cutting import PARKED_POLL_S, Cutter
from .heap import MISSING
from .mute import Mute
from .objects import Users
from .policy import Policy
from .resume import Resume
from .shield import Refusal, guarded
from .writer import Writer

POLL_S = 0.01
"""How often the orders on the board are read; an order is answered at the next loop head anyway."""

WORDS_MAX = 600
"""Bytes of a reason for starting again, with the last words of what the prefix printed."""


class Session:
    """All that the hook knows. `root` is the folder that file names are told relative to."""

    def __init__(self, board: Board, folder: str, output: str, root: str) -> None:
        self.board = board
        self.folder = folder
        self.output = output
        self.root = root
        self.users = Users()
        self.mute = Mute()
        self.cutter = Cutter(board, Writer(board, folder, output), self.users, root, self.give_up)
        self.policy = Policy()
        self.mode = "run"
        self.resume: Resume | None = None
        self.optimizer_steps = 0
        self.is_claimed = False
        self._rounds = itertools.count()
        self._main = threading.get_ident()
        self._process = os.getpid()

    # ── what rewritten code calls ──

    def publish(self) -> None:
        """Make the names that rewritten code uses."""
        names: dict[str, object] = {
            "__shoal_iter__": self.iterate, "__shoal_while__": self.enter_while, "__shoal_head__": self.head,
            "__shoal_tick__": self._rounds.__next__, "__shoal_due__": False,
        }  # fmt: skip
        for name, value in names.items():
            setattr(builtins, name, value)

    def iterate(self, iterable: object, index: int) -> object:
        """The iterator of a loop that begins."""
        if self.mode == "run":
            return self.iterator_of(iterable)
        if self.mode != "off" and threading.get_ident() == self._main:
            frame = sys._getframe(1)
            found: list[object] = []
            self.shielded(lambda: self._enter(frame, index, iterable, found))
            if found:
                return found[0]
        return iter(iterable) if self.mode == "off" else self.iterator_of(iterable)  # type: ignore[call-overload]

    def enter_while(self, index: int) -> int:
        """1 where the body is to be entered at once."""
        if self.mode in ("parked", "resume") and threading.get_ident() == self._main:
            frame = sys._getframe(1)
            found: list[object] = []
            self.shielded(lambda: self._enter(frame, index, None, found))
            return 1 if found else 0
        return 0

    def head(self, index: int) -> int:
        """A round begins and something is due."""
        if threading.get_ident() != self._main:
            return 0
        frame = sys._getframe(1)
        if self.mode == "run":
            self.shielded(lambda: self._consider(frame, index))
        elif self.mode == "resume":
            self.shielded(lambda: self._arrive(frame, index))
        elif self.mode == "off":
            builtins.__shoal_due__ = False  # type: ignore[attr-defined]
        return 0

    def iterator_of(self, iterable: object) -> object:
        """An iterator whose position can be captured."""
        if type(iterable) in (list, tuple, range):
            return iter(iterable)  # type: ignore[call-overload]
        if isinstance(iterable, (dict, set, frozenset)) or type(iterable) in VIEWS:
            return iter(list(iterable))  # type: ignore[call-overload]
        made = iter(iterable)  # type: ignore[call-overload]
        if iterators.is_known(made) or self.users.owns(type(made)):
            return made
        return iterators.counted(made)

    # ── steps ──

    def steps(self) -> int:
        """Optimizer steps, or loop rounds in a job that has no optimizer."""
        return self.optimizer_steps or self.rounds()

    def rounds(self) -> int:
        """Loop rounds."""
        return int(repr(self._rounds)[len("count(") : -1])

    def set_steps(self, steps: int, rounds: int) -> None:
        """Go on counting from a snapshot."""
        self.optimizer_steps = steps
        self._rounds = itertools.count(rounds)
        builtins.__shoal_tick__ = self._rounds.__next__  # type: ignore[attr-defined]

    def on_step(self) -> None:
        """An optimizer has made a step."""
        if os.getpid() != self._process:
            return
        self.optimizer_steps += 1
        self.board.set("steps", self.optimizer_steps)
        if builtins.__shoal_due__ and self.mode == "run":  # type: ignore[attr-defined]
            self.policy.stepped_at(self._innermost(sys._getframe(1)))

    def _innermost(self, frame: types.FrameType | None) -> tuple[int, int] | None:
        """(frame, loop) that a step happened in."""
        for inside in reversed(frames.user_frames(frame, self.users.files)):
            found = frames.loops_of(inside)
            if found:
                return id(inside), found[-1].index
        return None

    # ── cutting ──

    def watch(self) -> None:
        """The thread that reads orders, for as long as the job lives."""
        while self.mode != "off":
            time.sleep(POLL_S)
            if self.mode != "run":
                continue
            if not self.optimizer_steps:
                self.board.set("steps", self.steps())
            if builtins.__shoal_due__ or not self.cutter.is_wanted() or not self.cutter.writer.is_free():  # type: ignore[attr-defined]
                continue
            if self.cutter.is_wanted():  # Asked again: what was being written just now may have been the answer.
                self.policy.due_since(time.monotonic())
                builtins.__shoal_due__ = True  # type: ignore[attr-defined]

    def _consider(self, frame: types.FrameType, index: int) -> None:
        if self.cutter.pending is not None:
            self.cutter.settle(is_urgent=False)
            return
        stack = frames.user_frames(frame, self.users.files)
        depth = sum(len(frames.loops_of(inside)) for inside in stack)
        if not self.policy.is_cut((id(frame), index), depth, self.optimizer_steps, time.monotonic()):
            return
        if not self.cutter.is_wanted() or not self.cutter.writer.is_free():  # Noticed as due while it was being cut.
            builtins.__shoal_due__ = False  # type: ignore[attr-defined]
            return
        self._cut(frame, stack)

    def _cut(self, frame: types.FrameType, stack: list[types.FrameType]) -> None:
        self.cutter.cut(frame, stack, self.optimizer_steps, self.rounds())
        self.policy.was_cut(time.monotonic())

    # ── parking and resuming ──

    def _enter(self, frame: types.FrameType, index: int, iterable: object, found: list[object]) -> None:
        """A loop begins while the job is parked or re-executes its prefix."""
        stack = frames.user_frames(frame, self.users.files)
        if self.mode == "parked" and self.policy.is_parking_place(iterable):
            self._wait_for_go()
            if self.resume is not None and self.resume.has_begun(stack):  # Parked too deep for this snapshot.
                self.mute.end(is_shown=False)
                replace_process()
        if self.mode == "resume" and self.resume is not None:
            made = self.resume.enter(stack, index, iterable)
            if made is not MISSING:
                found.append(made)

    def _wait_for_go(self) -> None:
        self.board.say("parked")
        while not self.board.get("go"):
            time.sleep(PARKED_POLL_S)
        if self.board.get("go") == 1:
            self.load()
        else:
            self.run_on()

    def run_on(self) -> None:
        """From here on the job runs as if nothing had been."""
        self.mode = "run"
        self.mute.end(is_shown=True)
        self.board.say("running")
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]

    def load(self) -> None:
        """Read the snapshot; when it is none, the job runs from the beginning, and nothing has been touched yet."""
        try:
            self.resume = Resume.read(os.path.join(self.folder, "restore"), self.users, self.root)
        except (Refusal, ValueError, OSError, LookupError) as error:
            self.mode = "run"
            self.mute.end(is_shown=True)
            self.give_up("the snapshot cannot be restored: %s" % error)
            return
        self.mode = "resume"
        self.mute.begin()
        builtins.__shoal_due__ = True  # type: ignore[attr-defined]

    def _arrive(self, frame: types.FrameType, index: int) -> None:
        """A head is reached while the prefix is re-executed."""
        resume = self.resume
        if resume is None:
            return
        stack = frames.user_frames(frame, self.users.files)
        if not resume.is_at_last(stack, index):
            resume.help_along(frame)
            return
        state = resume.saved.state
        resume.put_back(stack)
        if self.output:
            outfiles.put_back(self.output, os.path.join(self.folder, "restore", "files"), state.get("handles"))
        self.set_steps(operator.index(state["steps"]), operator.index(state["rounds"]))  # type: ignore[arg-type]
        self.mute.end(is_shown=False)
        self.mode, self.resume = "run", None
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]
        self.board.set("steps", self.steps())
        self.board.set("restored_step", self.steps())
        self.board.say("restored")
        streams.put_back(state.get("streams"))
        if (
            self.board.get("wanted") != self.cutter.writer.answered
        ):  # A rehearsal compares what stands here, not a round on.
            self._cut(frame, stack)

    # ── ends ──

    def shielded(self, work: Callable[[], None]) -> None:
        """Run a part of the hook: no exception reaches the job."""
        guarded(work, self.give_up)

    def give_up(self, reason: str) -> None:
        """The hook stops for good. A restore that has begun cannot be half done: the job starts again."""
        was, self.mode = self.mode, "off"
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]
        self.board.say("disabled", reason)
        if was == "resume":
            self.start_again(reason)

    def start_again(self, reason: str) -> None:
        """Replace the process by a fresh one that does not restore."""
        shown = self.mute.end(is_shown=False)
        if shown:
            reason = "%s; it printed: %s" % (reason[:WORDS_MAX], shown)
        self.board.say("disabled", reason)
        os.environ["SHOAL_FROM_THE_START"] = reason[:WORDS_MAX]
        replace_process()

    def at_exit(self) -> None:
        """The script is over."""
        if os.getpid() != self._process:
            return
        if self.mode == "resume":
            self.mode = "off"
            self.start_again("the script ended before it came to the loop of the snapshot")
        if self.mode == "parked":  # It never came to a loop; its output is its result, if the node lets it run.
            self._wait_for_go()
        self.cutter.settle(is_urgent=True)
        self.cutter.writer.finish()
        if self.mode != "off":
            self.board.set("steps", self.steps())
            self.board.say("ended", self.board.text)
        self.mode = "off"

    def in_child(self) -> None:
        """After a fork: the child is not the job."""
        self.mode, self.cutter.pending = "off", None
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]

    def is_here(self) -> bool:
        """Whether this is the hooked process, and the hook lives."""
        return self.mode != "off"


VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
"""Loops over these and over sets walk a list made at their beginning: a set's own iterator cannot be set back."""


def replace_process() -> None:
    """Start the script anew in this process."""
    told = list(getattr(sys, "orig_argv", ()))
    os.execv(sys.executable, [sys.executable, *(told[1:] if told else sys.argv)])
