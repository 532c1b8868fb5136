"""Records of requests across processes that die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway import accounts, database
from gateway.idempotency import Answer, Requests, fingerprint
from gateway.problems import HttpProblem

MARK = fingerprint("POST /x", b"body")


async def ok() -> Answer:
    """A request that succeeds."""
    return Answer(201, b"{}", "/there")


async def fails() -> Answer:
    """A request that does not."""
    raise HttpProblem("refused", "no")


def test_a_dead_process_leaves_its_open_record_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "g.sqlite3"
    accounts.create_token(path, "anna", ["read"])

    async def story() -> None:
        engine = database.open_engine(path)
        async with engine.connect() as connection:
            account = (await connection.execute(database.accounts.select())).one().id
        dead, alive = Requests(engine), Requests(engine)
        assert await dead._open(account, "k", MARK) is None
        with pytest.raises(HttpProblem) as running:
            await dead._open(account, "k", MARK)
        assert running.value.code == "key_in_progress"
        assert (await alive.once(account, "k", MARK, ok)).is_replay is False
        again = await dead.once(account, "k", MARK, fails)
        assert (again.status, again.body, again.location, again.is_replay) == (201, b"{}", "/there", True)
        with pytest.raises(HttpProblem):
            await alive.once(account, "l", MARK, fails)
        assert (await alive.once(account, "l", fingerprint("POST /x", b"other"), ok)).status == 201, (
            "a failure leaves no record"
        )
        await engine.dispose()

    asyncio.run(story())


def test_the_schema_of_the_migrations_is_the_schema_of_the_code(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.connect(tmp_path / "g.sqlite3") as connection:
        assert compare_metadata(MigrationContext.configure(connection), database.metadata) == []
