"""Evidence and appeals over HTTP."""

from __future__ import annotations

from starlette.responses import Response

from gateway.answers import node_value
from gateway.node_client import NodeError
from gateway.ownership import no_such_job
from gateway.problems import SYNONYMS
from gateway.proof_schemas import AppealRequest, Claim, Evidence, EvidenceQuery
from gateway.routing import Call, json_reply


async def show_evidence(call: Call) -> Response:
    """Why the job's claims were judged so: what the ledger holds, and every decision in its order."""
    query = call.asked(EvidenceQuery)
    params = {} if query.chunk is None else {"chunk": query.chunk}
    return json_reply(node_value(await _asked(call, "job.evidence", params), Evidence))


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
