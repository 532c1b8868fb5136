"""Begins the hook in a process that has a board and whose main file is the job's own script."""

from __future__ import annotations

import atexit
import builtins
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec

from . import importing, loaders, outfiles
from .board import Board
from .session import Session
from .shield import guarded

SCRIPT_ENDS = (".py", ".pyw")
"""Names of main files that Python compiles."""


def start() -> None:
    """Begin; a fault of the hook is told on the error stream, and the job runs without it."""
    guarded(begin, lambda reason: print("shoal: no snapshots: " + reason, file=sys.stderr))


def begin() -> None:
    """Install what is needed, or nothing."""
    folder = os.environ.get("SHOAL_SNAPSHOT_DIR", "")
    path = os.path.join(folder, "board")
    script = sys.argv[0] if sys.argv else ""
    if not folder or not os.path.exists(path) or script in ("", "-c"):
        return
    is_module = script == "-m"
    if not is_module and not os.path.isfile(script):
        return
    inside = os.environ.get("SHOAL_IN", "")
    home = os.getcwd() if is_module else os.path.dirname(os.path.realpath(script))
    territory = importing.Territory([inside, os.getcwd(), home])
    if not is_module and not (script.endswith(SCRIPT_ENDS) and territory.holds(script)):
        return
    board = Board(path)
    session = Session(board, folder, output_folder(), os.path.realpath(inside or home))
    if is_module:
        importing.hook_modules(territory, _noticing(session, path, is_module=True))
        return
    if not claim(path):
        return
    noticed = _noticing(session, path, is_module=False)
    importing.hook_main(script, noticed)
    importing.hook_modules(territory, noticed)
    activate(session)


def _noticing(session: Session, path: str, *, is_module: bool) -> importing.Noticed:
    """What is done when a module of the script is compiled; with `python -m` the first one begins the hook."""

    def noticed(file: str, name: str) -> None:
        if is_module and not session.is_claimed:
            if sys.argv[0] != "-m" or not claim(path):
                session.mode = "off"
            else:
                activate(session)
        session.users.files.add(file)
        if importing.is_framework(file):  # Its frames are looked at, its module's variables are not.
            return
        session.users.modules[name if not (is_module and _is_main(name)) else "__main__"] = file

    if is_module:
        session.publish()
    return noticed


def _is_main(name: str) -> bool:
    """Whether runpy is about to run this module as the program."""
    told = getattr(sys, "orig_argv", [])
    return "-m" in told and told[told.index("-m") + 1 : told.index("-m") + 2] in ([name], [name.rpartition(".")[0]])


def output_folder() -> str:
    """The job's output folder; empty if there is none."""
    path = os.environ.get("SHOAL_OUT", "/out")
    return os.path.realpath(path) if os.path.isdir(path) else ""


_claims: list[int] = []


def claim(path: str) -> bool:
    """Whether this process is the first on this board: a record lock that dies with it and that no child inherits."""
    try:
        import fcntl
    except ImportError:  # Windows: no lock, one job per board.
        return True
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        os.close(descriptor)
        return False
    _claims.append(descriptor)
    return True


def activate(session: Session) -> None:
    """The hook lives from here on."""
    session.is_claimed = True
    session.publish()
    outfiles.install()
    board = session.board
    atexit.register(session.shielded, session.at_exit)
    os.register_at_fork(after_in_child=session.in_child)
    _trim_tracebacks()
    after_torch(session)
    reason = os.environ.pop("SHOAL_FROM_THE_START", "")
    if reason:
        session.mode = "off"
        board.say("disabled", reason)
        return
    board.say("loaded")
    if board.get("go") == 1:
        session.load()
    elif board.get("is_parked"):
        session.mode = "parked"
        session.mute.begin()
        builtins.__shoal_due__ = False  # type: ignore[attr-defined]
    threading.Thread(target=session.watch, name="shoal", daemon=True).start()


def _trim_tracebacks() -> None:
    """Leave runpy's frames out of the traceback that ends a script: a plain start has none."""
    shown = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        while trace is not None and "runpy" in trace.tb_frame.f_code.co_filename and trace.tb_next is not None:
            trace = trace.tb_next
        shown(kind, error.with_traceback(trace), trace)

    sys.excepthook = show


def after_torch(session: Session) -> None:
    """When the script has imported torch: count steps, and let loaders know their position."""

    def install(torch: types.ModuleType) -> None:
        optimizer = sys.modules["torch.optim.optimizer"]

        def stepped(*_: object) -> None:
            session.shielded(session.on_step)

        def stepping(*_: object) -> None:
            session.shielded(lambda: session.cutter.settle(is_urgent=True))

        optimizer.register_optimizer_step_pre_hook(stepping)
        optimizer.register_optimizer_step_post_hook(stepped)
        plain = optimizer.Optimizer.__init__

        def made(self: object, *args: object, **named: object) -> None:
            session.policy.has_optimizer = True
            session.cutter.patience.follow(self)
            plain(self, *args, **named)

        optimizer.Optimizer.__init__ = made
        loaders.install(lambda: session.mode == "resume", session.is_here)

    sys.meta_path.insert(0, _AfterImport("torch", lambda module: session.shielded(lambda: install(module))))


class _AfterImport:
    """A finder that calls back when one module has been executed."""

    def __init__(self, name: str, then: Callable[[types.ModuleType], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """The spec that the others find, with its `exec_module` wrapped."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            plain = spec.loader.exec_module

            def run(module: types.ModuleType) -> None:
                plain(module)
                self._then(module)

            spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec
