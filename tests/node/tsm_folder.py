"""A local folder that behaves like one entry of configfs-tsm; what signs behind it is emulated, with a test root.

`inblob` and `outblob` are pipes: like the kernel's attributes they take and give exactly one blob per open file, and a
read lasts until the quote is made. `generation` counts the writes. The entry is there beforehand, as where an owner has
made it for a node without root. Linux 6.7, Documentation/ABI/testing/configfs-tsm.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from node.tsm import ENTRY

Signs = Callable[[bytes], bytes]
"""64 bytes to a report."""


class TsmFolder:
    """The folder, and the thread that is its hardware, while the context is open."""

    def __init__(
        self, folder: Path, signs: Signs, provider: str = "tdx_guest", aux: bytes = b"", step: int = 1
    ) -> None:
        self.folder = folder
        self.signs = signs
        """May be exchanged while it runs: another machine's hardware, or an old quote."""
        self.written: list[bytes] = []
        """Every inblob so far."""
        self._step = step
        self._entry = folder / ENTRY
        self._entry.mkdir(parents=True)
        for name in ("inblob", "outblob"):
            os.mkfifo(self._entry / name, 0o600)
        (self._entry / "provider").write_text(provider + "\n", encoding="ascii")
        (self._entry / "auxblob").write_bytes(aux)
        self._write_generation()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        while self._thread.is_alive():
            for name, flag in (("inblob", os.O_WRONLY), ("outblob", os.O_RDONLY)):
                try:
                    os.close(os.open(self._entry / name, flag | os.O_NONBLOCK))
                except OSError:
                    continue  # Nobody at the other end.
            self._thread.join(0.01)

    def _serve(self) -> None:
        while not self._over.is_set():
            asked = (self._entry / "inblob").read_bytes()
            if self._over.is_set():
                return
            self.written.append(asked)
            self._write_generation()
            report = self.signs(asked)
            try:
                (self._entry / "outblob").write_bytes(report)
            except BrokenPipeError:
                continue  # Who asked has gone.

    def _write_generation(self) -> None:
        count = len(self.written) * self._step
        beside = self._entry / ".generation"
        beside.write_text(f"{count}\n", encoding="ascii")
        beside.replace(self._entry / "generation")
