"""The node's local records: a key-value table in SQLite, durable where a lost record would cost somebody money.

Keys are paths (`job/<id>`, `lease/<op>`, `log/<job>/<n>`, `earning/<time>/<op>`); blocks go to the journal instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from protocol.errors import Unavailable

VOLATILE: Final = ("log/", "opened/", "receipt/")
"""Prefixes whose last second may be lost in a power cut: log lines, what was opened to a judge, and
receipts, which the blocks give again."""


class RecordStore:
    """Synchronous on purpose: one write costs 10–160 µs here, less than a hop to a thread and back."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = apsw.Connection(str(path))
            self._db.pragma("journal_mode", "wal")
            self._db.pragma("synchronous", 1)
            self._synchronous = 1
            self._db.execute(
                "create table if not exists record(key text primary key, value blob not null) without rowid"
            )
        except apsw.Error as error:
            raise Unavailable(
                f"cannot use the records in {path}: {error}",
                code="data_unusable",
                fix="Restore the file from your backup; without it this node forgets its jobs, not its credits.",
            ) from error

    def put(self, key: str, value: bytes | None) -> None:
        """Write, or delete with None. Durable on return unless the key is volatile."""
        self.put_all(((key, value),))

    def put_all(self, records: Sequence[tuple[str, bytes | None]]) -> None:
        """The same of several, together or not at all: one transaction costs little more than one record."""
        self._synchronise(key for key, _ in records)
        if len(records) == 1:  # A transaction by itself.
            self._write(*records[0])
            return
        with self._db:
            for key, value in records:
                self._write(key, value)

    def _synchronise(self, keys: Iterable[str]) -> None:
        """Durable commits where one of the keys asks for it."""
        wanted = 1 if all(key.startswith(VOLATILE) for key in keys) else 2
        if wanted != self._synchronous:
            self._db.pragma("synchronous", wanted)
            self._synchronous = wanted

    def _write(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._db.execute("delete from record where key = ?", (key,))
        else:
            self._db.execute("insert or replace into record values(?, ?)", (key, value))

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        row = self._db.execute("select value from record where key = ?", (key,)).fetchone()
        return bytes(row[0]) if row else None

    def scan(self, prefix: str, start: str = "", limit: int = -1) -> Iterator[tuple[str, bytes]]:
        """Records whose key begins with the prefix, in key order, from `start` on."""
        rows = self._db.execute(
            "select key, value from record where key >= ? and key < ? order by key limit ?",
            (max(prefix, start), prefix + "\U0010ffff", limit),
        )
        for key, value in rows:
            yield str(key), bytes(value)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that begin with the prefix, and the bytes of their values, which are not read."""
        rows = self._db.execute(
            "select key, length(value) from record where key >= ? and key < ? order by key",
            (prefix, prefix + "\U0010ffff"),
        )
        for key, size in rows:
            yield str(key), int(size)

    def close(self) -> None:
        """Flush and close."""
        self._db.close()
