"""Which job belongs to whom. A job of somebody else is answered exactly like a job that does not exist."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import clock
from gateway.database import jobs
from gateway.node_client import NodeClient, NodeError
from gateway.problems import HttpProblem


def derived_key(account: str, purpose: str, key: str) -> str:
    """The network's key for a request: the same on every gateway that knows the account, so a retry is the same job."""
    return hashlib.sha256(f"shoal/1\0{purpose}\0{account}\0{key}".encode()).hexdigest()


def no_such_job(job: str) -> HttpProblem:
    """The one answer for foreign, unknown and malformed ids."""
    return HttpProblem(
        "unknown_job",
        f"this account has no job {job[:64]}",
        fix="GET /marketplace/jobs lists the jobs of this account.",
    )


class Owners:
    """Accounts, their renter keys (kept by the node) and their jobs (kept here)."""

    def __init__(self, engine: AsyncEngine, node: NodeClient) -> None:
        self._engine = engine
        self._node = node
        self._renters: dict[str, str] = {}

    async def renter(self, account: str) -> str:
        """The peer id of the account's renter key; the node makes it on first use."""
        if account not in self._renters:
            answer = await self._node.call("renter.create", {"name": account})
            self._renters[account] = str(answer["renter"])
        return self._renters[account]

    async def record(self, account: str, job: str) -> None:
        """Remember that the account submitted this job."""
        row = insert(jobs).values(job=job, account=account, created=clock.wall()).on_conflict_do_nothing()
        async with self._engine.begin() as connection:
            await connection.execute(row)

    async def require(self, account: str, job: str) -> None:
        """Raises the not-found problem unless the job is the account's.

        A job that this database does not know (the gateway was killed between submitting and writing, or another
        gateway submitted it) belongs to whoever the network says."""
        async with self._engine.connect() as connection:
            owner = (await connection.execute(select(jobs.c.account).where(jobs.c.job == job))).scalar_one_or_none()
        if owner == account:
            return
        if owner is not None or not await self._is_renters(account, job):
            raise no_such_job(job)
        await self.record(account, job)

    async def _is_renters(self, account: str, job: str) -> bool:
        renter = await self.renter(account)
        try:
            status = await self._node.call("job.status", {"job": job})
        except NodeError as error:
            if error.fault == "caller":
                return False
            raise
        return status.get("renter") == renter
