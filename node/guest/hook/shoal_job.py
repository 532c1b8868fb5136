"""Three functions for a job that saves its own state: `save`, `load` and `should_stop`. Any framework, or none.

    import shoal_job
    state = shoal_job.load("state") or fresh()
    for step in range(state["step"], 1_000):
        ...
        if step % 100 == 0 or shoal_job.should_stop():
            shoal_job.save("state", pack(state))

Where no node runs the job, `save` and `load` use `./checkpoint`, and `should_stop` is always False.
"""

from __future__ import annotations

import os
import signal
import threading
import types

FOLDER = os.environ.get("SHOAL_CHECKPOINT_DIR") or "checkpoint"
"""Where complete files are picked up as snapshots."""

NAME_MAX = 128
"""Characters of a name."""

_asked = threading.Event()
_ending = threading.Event()
_signals = {"TERM": getattr(signal, "SIGTERM", None), "USR1": getattr(signal, "SIGUSR1", None)}


def save(name: str, value: object) -> None:
    """Keep `bytes`, or a mapping of names to torch tensors (written as safetensors), complete or not at all.

    Raises ValueError (a name that is no plain file name), TypeError, OSError.
    """
    path = _path(name)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(value)
    elif isinstance(value, dict):
        from safetensors import torch as form  # type: ignore[import-not-found]

        data = form.save({key: tensor.detach().cpu().contiguous() for key, tensor in value.items()})
    else:
        raise TypeError("save takes bytes or a mapping of tensors, not " + type(value).__name__)
    os.makedirs(FOLDER, exist_ok=True)
    part = path + ".part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        at = 0
        while at < len(data):
            at += os.write(descriptor, data[at:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part, path)


def load(name: str) -> object:
    """What `save` kept under this name: bytes, or a dictionary of tensors; None if nothing was kept."""
    try:
        with open(_path(name), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    length = int.from_bytes(data[:8], "little")
    if not (8 < length + 8 <= len(data) and data[8:9] == b"{"):
        return data
    from safetensors import torch as form

    return form.load(data)


def should_stop() -> bool:
    """Whether the node has asked for a snapshot (SIGUSR1) or the end (SIGTERM): save, after SIGTERM exit with 85."""
    if _ending.is_set():
        return True
    was = _asked.is_set()
    _asked.clear()
    return was


def _path(name: str) -> str:
    if not name or len(name) > NAME_MAX or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError("no plain file name: %r" % name[:80])
    return os.path.join(FOLDER, name)


def _ask(number: int, frame: types.FrameType | None) -> None:
    (_ending if number == signal.SIGTERM else _asked).set()


if os.environ.get("SHOAL_CHECKPOINT_DIR") and threading.current_thread() is threading.main_thread():
    for _number in _signals.values():
        if _number is not None and signal.getsignal(_number) == signal.SIG_DFL:
            signal.signal(_number, _ask)
