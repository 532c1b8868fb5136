"""The gateway's tables and how they are opened. What they hold: accounts, tokens, who owns which job, request records.

Money and jobs live in the network: losing this file loses tokens, never credits of a job that runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a writer waits for another process (`shoal gateway token` beside a running gateway)."""

metadata: Final = MetaData()

accounts: Final = Table(
    "accounts", metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("created", BigInteger, nullable=False),
)  # fmt: skip

tokens: Final = Table(
    "tokens", metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("scopes", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=False, server_default="0"),
)  # fmt: skip

sessions: Final = Table(
    "sessions", metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("token", String(32), ForeignKey("tokens.id"), nullable=False),
    Column("expires", BigInteger, nullable=False),
)  # fmt: skip

jobs: Final = Table(
    "jobs", metadata,
    Column("job", String(40), primary_key=True),
    Column("account", String(32), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
)  # fmt: skip

requests: Final = Table(
    "requests", metadata,
    Column("account", String(32), ForeignKey("accounts.id"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("process", String(32), nullable=False),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("location", String(255), nullable=False, server_default=""),
    Column("body", LargeBinary, nullable=False, server_default=""),
    Column("created", BigInteger, nullable=False, index=True),
)  # fmt: skip
"""Idempotency records; status 0 = still running."""


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _url(path: Path, driver: str) -> str:
    return f"{driver}:///{path}"


def open_engine(path: Path) -> AsyncEngine:
    """The engine of the running gateway. `migrate` has to have run."""
    engine = create_async_engine(_url(path, "sqlite+aiosqlite"))
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


@contextmanager
def connect(path: Path) -> Iterator[Connection]:
    """One transaction on a migrated database, for commands beside the gateway."""
    migrate(path)
    engine = _sync_engine(path)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def migrate(path: Path) -> None:
    """Create the file where it is missing (only its owner may read it) and bring it to the newest revision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    engine = _sync_engine(path)
    try:
        with engine.connect() as connection:
            command.upgrade(migration_config(connection), "head")
    finally:
        engine.dispose()


def migration_config(connection: Connection) -> Config:
    """Alembic's settings; the migrations lie beside this file, also in the installed package."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _sync_engine(path: Path) -> Engine:
    engine = create_engine(_url(path, "sqlite"))
    event.listen(engine, "connect", _prepare)
    return engine
