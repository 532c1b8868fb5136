"""Requests that must happen once: (account, Idempotency-Key) -> the answer that was given.

The record opens before the work and closes with its answer. Failed requests leave no record, and the work itself is
idempotent in the network by a key derived from the same pair, so a gateway killed in between loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import clock
from gateway.database import requests
from gateway.problems import HttpProblem
from node import entropy
from protocol.units import DAY, Micros

RECORD_LIFE: Final = Micros(2 * DAY)
"""Kept longer than the 24 h that callers are promised."""

KEY_CHARS_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered."""

    status: int
    body: bytes
    location: str = ""
    is_replay: bool = False


def checked_key(key: str | None) -> str | None:
    """The header's value, or a problem where it is not 1–255 visible ASCII characters."""
    if key is None:
        return None
    if not 0 < len(key) <= KEY_CHARS_MAX or not all("!" <= character <= "~" for character in key):
        raise HttpProblem("key_malformed", f"an Idempotency-Key has 1 to {KEY_CHARS_MAX} visible ASCII characters")
    return key


def fingerprint(operation: str, body: bytes) -> bytes:
    """What makes two requests the same."""
    return hashlib.sha256(operation.encode() + b"\0" + body).digest()


class Requests:
    """The records, and the one way through them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._process = entropy.salt()[:8].hex()
        """Records of an earlier process that are still open belong to a dead request and are taken over."""

    async def once(self, account: str, key: str, mark: bytes, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Run the work, or replay its answer. `mark` is the request's fingerprint."""
        replay = await self._open(account, key, mark)
        if replay is not None:
            return replay
        try:
            answer = await work()
        except BaseException:
            await self._forget(account, key)
            raise
        await self._close(account, key, answer)
        return answer

    async def _open(self, account: str, key: str, mark: bytes) -> Answer | None:
        now = clock.wall()
        row = insert(requests).values(account=account, key=key, fingerprint=mark, process=self._process, created=now)
        this = (requests.c.account == account) & (requests.c.key == key)
        async with self._engine.begin() as connection:
            await connection.execute(delete(requests).where(requests.c.created < now - RECORD_LIFE))
            if (await connection.execute(row.on_conflict_do_nothing())).rowcount:
                return None
            found = (await connection.execute(select(requests).where(this))).one()
            if found.fingerprint != mark:
                raise HttpProblem("key_reused", "this Idempotency-Key came with another request before")
            if found.status:
                return Answer(found.status, found.body, found.location, is_replay=True)
            if found.process == self._process:
                raise HttpProblem("key_in_progress", "the first request with this Idempotency-Key has no answer yet")
            await connection.execute(update(requests).where(this).values(process=self._process, created=now))
            return None

    async def _close(self, account: str, key: str, answer: Answer) -> None:
        this = (requests.c.account == account) & (requests.c.key == key)
        values = {"status": answer.status, "body": answer.body, "location": answer.location}
        async with self._engine.begin() as connection:
            await connection.execute(update(requests).where(this).values(**values))

    async def _forget(self, account: str, key: str) -> None:
        this = (requests.c.account == account) & (requests.c.key == key)
        async with self._engine.begin() as connection:
            await connection.execute(delete(requests).where(this))
