"""Accounts and their tokens. A token is shown once; the database holds its SHA-256 and a prefix to recognise it by.

Tokens carry 256 bits from the operating system, so a plain hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Row, Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import clock, database
from gateway.database import accounts, sessions, tokens
from node import entropy
from protocol.errors import Refused
from protocol.units import DAY, HOUR, Micros

SCOPES: Final = ("read", "jobs", "money")
"""read: look at the market and at one's own jobs; jobs: submit, confirm, cancel, upload; money: deposit."""

ROLES: Final = {"renter": SCOPES, "viewer": ("read",)}
"""Names for sets of scopes that people ask for."""

TOKEN_MARK: Final = "shoal_"  # noqa: S105  (a public prefix)
"""Start of every token, so that secret scanners recognise a leaked one."""

TOKEN_LIFE: Final = Micros(365 * DAY)
SESSION_LIFE: Final = Micros(12 * HOUR)
"""A page session ends after 12 hours, half of features G1's bound for idle ones."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever is asking: an account, through one of its tokens."""

    account: str
    name: str
    token: str
    prefix: str
    scopes: tuple[str, ...]


def digest(secret: str) -> bytes:
    """What the database keeps of a token or session."""
    return hashlib.sha256(secret.encode()).digest()


def scopes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Scopes in their fixed order, role names resolved; refuses unknown ones."""
    wanted = {scope for name in names for scope in ROLES.get(name, (name,))}
    unknown = sorted(wanted - set(SCOPES))
    if unknown or not wanted:
        known = ", ".join((*SCOPES, *ROLES))
        raise Refused(
            f"unknown scopes: {', '.join(unknown) or 'none given'}", code="bad_scope", fix=f"Choose from {known}."
        )
    return tuple(scope for scope in SCOPES if scope in wanted)


def create_token(db: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a token for the account `name`, and the account where it is new. The token is returned this once."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name[:80]!r} is no account name",
            code="bad_name",
            fix="Use lower-case letters, digits, '.', '_' and '-', at most 64.",
        )
    granted = scopes_of(scopes)
    token = TOKEN_MARK + entropy.token()
    now = clock.wall()
    with database.connect(db) as connection:
        account = connection.execute(select(accounts.c.id).where(accounts.c.name == name)).scalar_one_or_none()
        if account is None:
            account = f"acc_{entropy.salt()[:12].hex()}"
            connection.execute(insert(accounts).values(id=account, name=name, created=now))
        connection.execute(
            insert(tokens).values(
                id=f"tok_{entropy.salt()[:12].hex()}",
                account=account,
                prefix=token[: len(TOKEN_MARK) + 6],
                hash=digest(token),
                scopes=" ".join(granted),
                created=now,
                expires=now + TOKEN_LIFE,
            )
        )
    return token


def _valid_tokens(now: Micros) -> Select[str, str, str, str, str]:
    columns = (tokens.c.account, accounts.c.name, tokens.c.id, tokens.c.prefix, tokens.c.scopes)
    return (
        select(*columns)
        .join(accounts, accounts.c.id == tokens.c.account)
        .where(tokens.c.revoked == 0, tokens.c.expires > now)
    )


def _caller(row: Row[str, str, str, str, str] | None) -> Caller | None:
    if row is None:
        return None
    account, name, token, prefix, scopes = row
    return Caller(account, name, token, prefix, tuple(scopes.split()))


class Accounts:
    """Looks callers up. Results are not cached: a revoked token ends with its next request."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def by_token(self, token: str) -> Caller | None:
        """The caller that holds this token, None when it is unknown, expired or revoked."""
        query = _valid_tokens(clock.wall()).where(tokens.c.hash == digest(token))
        async with self._engine.connect() as connection:
            return _caller((await connection.execute(query)).one_or_none())

    async def by_session(self, secret: str) -> Caller | None:
        """The caller of a page session; the session dies with its token."""
        now = clock.wall()
        query = _valid_tokens(now).join(sessions, sessions.c.token == tokens.c.id)
        query = query.where(sessions.c.hash == digest(secret), sessions.c.expires > now)
        async with self._engine.connect() as connection:
            return _caller((await connection.execute(query)).one_or_none())

    async def open_session(self, caller: Caller) -> str:
        """A new page session; returns the cookie's secret."""
        secret = entropy.token()
        now = clock.wall()
        async with self._engine.begin() as connection:
            await connection.execute(delete(sessions).where(sessions.c.expires <= now))
            await connection.execute(
                insert(sessions).values(hash=digest(secret), token=caller.token, expires=now + SESSION_LIFE)
            )
        return secret

    async def close_session(self, secret: str) -> None:
        """Sign out."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(sessions).where(sessions.c.hash == digest(secret)))
