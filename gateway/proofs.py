"""Evidence, opened units and appeals over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from starlette.responses import Response, StreamingResponse

from gateway.answers import node_value
from gateway.node_client import NodeError
from gateway.ownership import no_such_job
from gateway.problems import SYNONYMS
from gateway.proof_schemas import AppealRequest, Claim, Evidence, EvidenceQuery, Piece
from gateway.routing import Call, json_reply

UNITS_MEDIA: Final = "application/vnd.shoal.units"
"""The file of `protocol.dossier_file`."""


async def show_evidence(call: Call) -> Response:
    """Why the job's claims were judged so: what the ledger holds, and every decision in its order."""
    query = call.asked(EvidenceQuery)
    params = {} if query.chunk is None else {"chunk": query.chunk}
    return json_reply(node_value(await _asked(call, "job.evidence", params), Evidence))


async def show_units(call: Call) -> Response:
    """What was opened of every decided claim, as one file: with the receipt, anybody can check the job by himself."""
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    pieces = _pieces(call, job)
    first = await anext(pieces, b"")  # Whatever the node refuses is an answer, not the end of a connection.
    headers = {"Content-Disposition": f'attachment; filename="{job}.units"'}
    return StreamingResponse(_all(first, pieces), headers=headers, media_type=UNITS_MEDIA)


async def _pieces(call: Call, job: str) -> AsyncGenerator[bytes]:
    async with aclosing(call.gateway.node.stream("job.units", {"job": job})) as items:
        async for item in items:
            yield node_value(item, Piece).data


async def _all(first: bytes, pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(pieces) as following:
        yield first
        async for piece in following:
            yield piece


async def appeal_claim(call: Call) -> Response:
    """Contest the newest decision about a chunk's claim: a panel executes it again."""
    wanted = call.body(AppealRequest)
    params: dict[str, object] = {"chunk": wanted.chunk, "epoch": wanted.epoch, "bond": wanted.bond}
    params |= {name: value for name in ("rival", "speaker", "replay") if (value := getattr(wanted, name))}
    claim = node_value(await _asked(call, "job.appeal", params), Claim)
    call.gateway.live.nudge()
    return json_reply(claim)


async def _asked(call: Call, method: str, params: dict[str, object] | dict[str, int]) -> dict[str, object]:
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    try:
        return await call.gateway.node.call(method, {"job": job, **params})
    except NodeError as error:
        if SYNONYMS.get(error.code, error.code) == "bad_id":
            raise no_such_job(job) from error
        raise
