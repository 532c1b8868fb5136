"""Jobs over HTTP: plan, submit, quote, confirm, cancel, extend, status, resources, receipt."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from gateway import clock
from gateway.answers import node_value
from gateway.door import once
from gateway.idempotency import Answer
from gateway.node_client import NodeError
from gateway.ownership import derived_key, no_such_job
from gateway.peers import peers_of
from gateway.problems import SYNONYMS, FieldError, HttpProblem
from gateway.routing import Call, json_reply
from gateway.schemas import (
    ExtendRequest,
    JobList,
    JobRequest,
    JobResources,
    JobStatus,
    ListQuery,
    Peer,
    Plan,
    ProviderUse,
    Submitted,
)
from node import entropy
from protocol import jobcodec
from protocol.errors import Refused
from protocol.jobspec import JobSpec

ACTIVE_CHUNKS = ("granted", "leased", "running", "claimed", "revealed")
YAML_MEDIA = "application/yaml"


def spec_of(call: Call) -> JobSpec:
    """The specification in the body, as JSON or as a job file; `Refused` says what is wrong with it and where."""
    if call.media_type == YAML_MEDIA:
        if call.gateway.read_job is None:
            raise HttpProblem(
                "media_type", "this gateway reads no job files", fix="Send the specification as application/json."
            )
        try:
            return call.gateway.read_job(call.raw.decode())
        except UnicodeDecodeError as error:
            raise HttpProblem("malformed_body", f"the job file is no UTF-8 text: {error}") from error
    plain = call.body(JobRequest).spec
    try:
        return jobcodec.spec_from_plain(plain)
    except Refused as error:
        place = FieldError(f"/spec{error.numbers.get('pointer', '')}", error.detail)
        raise HttpProblem(error.code, error.detail, errors=(place,), fix=error.fix) from error


async def job_status(call: Call) -> JobStatus:
    """The status of the caller's job, or the not-found problem."""
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    return await _asked(call, "job.status", {"job": job})


async def _asked(call: Call, method: str, params: dict[str, object]) -> JobStatus:
    try:
        return node_value(await call.gateway.node.call(method, params), JobStatus)
    except NodeError as error:
        if SYNONYMS.get(error.code, error.code) in ("unknown_job", "bad_id"):
            raise no_such_job(call.path("job")) from error
        raise


async def create_job(call: Call) -> Response:
    """Submit a job for a quote."""
    spec = spec_of(call)
    account = call.account.account

    async def work() -> Answer:
        renter = await call.gateway.owners.renter(account)
        key = derived_key(account, "job", call.request.headers.get("idempotency-key") or entropy.token())
        params: dict[str, object] = {"spec": jobcodec.spec_to_plain(spec), "renter": renter, "key": key}
        submitted = node_value(await call.gateway.node.call("job.submit", params), Submitted)
        await call.gateway.owners.record(account, submitted.job)
        call.gateway.live.nudge()
        return Answer(201, msgspec.json.encode(submitted), f"/v1/marketplace/jobs/{submitted.job}")

    return await once(call, work)


async def plan_job(call: Call) -> Response:
    """Who could run the job, at what price, and who could not and why."""
    spec = jobcodec.spec_to_plain(spec_of(call))
    renter = await call.gateway.owners.renter(call.account.account)
    return json_reply(node_value(await call.gateway.node.call("job.plan", {"spec": spec, "renter": renter}), Plan))


async def list_jobs(call: Call) -> Response:
    """The account's jobs, newest first."""
    query = call.asked(ListQuery)
    params: dict[str, object] = {"renter": await call.gateway.owners.renter(call.account.account), "limit": query.limit}
    if query.cursor:
        params["cursor"] = query.cursor
    found = node_value(await call.gateway.node.call("job.list", params), JobList)
    headers = {}
    if found.next_cursor:
        headers["Link"] = f'</v1/marketplace/jobs?limit={query.limit}&cursor={quote(found.next_cursor)}>; rel="next"'
    return json_reply(found, headers=headers)


async def show_job(call: Call) -> Response:
    """Everything about one job."""
    return json_reply(await job_status(call))


async def show_quote(call: Call) -> Response:
    """What the job costs at most."""
    status = await job_status(call)
    if status.quote is None:
        raise HttpProblem("bad_state", f"the job is {status.state} and has no quote any more")
    return json_reply(status.quote)


async def confirm_job(call: Call) -> Response:
    """Agree to the quote: the escrow is funded and the job starts. Confirming twice changes nothing."""
    return await _changed(call, "job.confirm", {})


async def cancel_job(call: Call) -> Response:
    """Stop the job; what was not earned comes back. Cancelling twice changes nothing."""
    return await _changed(call, "job.cancel", {})


async def extend_job(call: Call) -> Response:
    """Raise the spend cap or the time limit of a job."""
    wanted = call.body(ExtendRequest)
    limits = {
        name: value
        for name, value in (("spend_cap", wanted.spend_cap), ("timeout", wanted.timeout))
        if value is not None
    }
    if not limits:
        raise HttpProblem("invalid_body", "neither spend_cap nor timeout is given", fix="Give at least one of them.")
    return await _changed(call, "job.extend", dict(limits))


async def _changed(call: Call, method: str, params: dict[str, object]) -> Response:
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    status = await _asked(call, method, {"job": job} | params)
    call.gateway.live.nudge()
    return json_reply(status)


async def show_resources(call: Call) -> Response:
    """Where the job's chunks are, and on what."""
    status = await job_status(call)
    peers = {peer.peer: peer for peer in peers_of(await call.gateway.node.call("node.peers"))}
    return json_reply(resources_of(status, peers, clock.wall()))


def resources_of(status: JobStatus, peers: dict[str, Peer], now: int) -> JobResources:
    """Who holds what of a job; lease time counts every attempt, running ones until `now`."""
    uses: dict[str, ProviderUse] = {}
    for chunk in status.chunks:
        if not chunk.provider:
            continue
        gpus = [gpu.name for gpu in peers[chunk.provider].gpus] if chunk.provider in peers else []
        use = uses.setdefault(chunk.provider, ProviderUse(chunk.provider, [], 0, 0, gpus))
        use.chunks_active += chunk.state in ACTIVE_CHUNKS
        use.chunks_accepted += chunk.state == "accepted"
        if chunk.executor and chunk.executor not in use.executors:
            use.executors.append(chunk.executor)
    attempts = [attempt for chunk in status.chunks for attempt in chunk.attempts if attempt.started]
    busy = sum(max(0, (attempt.ended or now) - (attempt.started or 0)) for attempt in attempts)
    counts = Counter(chunk.state for chunk in status.chunks)
    return JobResources(
        status.job, status.state, status.steps, status.accepted, dict(sorted(counts.items())), list(uses.values()), busy
    )


async def show_receipt(call: Call) -> Response:
    """The signed operations, headers, certificates and proofs of the job: verifiable without this gateway."""
    job = call.path("job")
    await call.gateway.owners.require(call.account.account, job)
    receipt = (await call.gateway.node.call("job.receipt", {"job": job})).get("receipt")
    if not isinstance(receipt, bytes) or not receipt:
        raise HttpProblem("no_receipt", "the node has no receipt for this job yet")
    headers = {"Content-Disposition": f'attachment; filename="{job}.receipt"'}
    return Response(receipt, headers=headers, media_type="application/vnd.shoal.receipt")
