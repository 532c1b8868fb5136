"""A last will: a command that runs if this process dies without having taken it back, by `kill -9` for example."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

_EXECUTOR: Final = 'read -r _; exec "$@"'
"""A shell that waits for the end of its input: the kernel closes the other end of the pipe with our process."""


@asynccontextmanager
async def last_will(command: Sequence[str], env: Mapping[str, str]) -> AsyncIterator[None]:
    """While the block runs, a small process stands ready to run `command` should this one die."""
    reading, writing = os.pipe()  # Neither end is inherited by anybody else: both close on exec.
    try:
        executor = subprocess.Popen(  # noqa: ASYNC220  a vfork and an exec: a millisecond or two
            ["/bin/sh", "-c", _EXECUTOR, "will", *command],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        yield
    finally:
        executor.kill()  # Before the pipe is closed, or it would take that for our death.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(executor.wait)
        os.close(writing)
